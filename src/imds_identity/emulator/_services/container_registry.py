"""Azure Container Registry's ``/oauth2/exchange``: a token of Entra for a refresh token.

https://github.com/Azure/acr/blob/main/docs/AAD-OAuth.md
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import jwt

from .._messages import json_response
from .._state.fault import registry_errors
from .._state.tokens import RefusedTokenError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._messages import Request, Response
    from .._state.fault import Fault
    from .._state.state import EmulatorState

PATH = "/oauth2/exchange"
# A registry also accepts tokens for Azure Resource Manager, unless its policy forbids that.
_AUDIENCES = ("https://containerregistry.azure.net", "https://management.azure.com")
_LIFETIME = 3 * 3600
_FIELDS = ("grant_type", "service", "access_token")


class ExchangeEndpoint:
    """Returns a refresh token for any registry that a request names as its service."""

    def __init__(self, state: EmulatorState) -> None:
        self._state = state

    def __call__(self, request: Request, fault: Fault | None) -> Response:
        if request.method != "POST":
            document = registry_errors("UNSUPPORTED", "The operation is unsupported.")
            return json_response(405, document, {"Allow": "POST"})
        form = request.form()
        missing = [name for name in _FIELDS if not form.get(name)]
        if missing or form["grant_type"] != "access_token":
            text = f"invalid parameter {missing[0] if missing else 'grant_type'}"
            return json_response(400, registry_errors("BAD_REQUEST", text))
        try:
            claims = self._verify(form["access_token"])
        except RefusedTokenError as error:
            text = "authentication required, visit https://aka.ms/acr/authorization for more"
            return json_response(401, registry_errors("UNAUTHORIZED", f"{text}: {error}"))
        own = None if fault is None else fault.token_lifetime
        lifetime = _LIFETIME if own is None else int(own)
        token = self._refresh_token(form["service"], claims, lifetime)
        return json_response(200, {"refresh_token": token})

    def _verify(self, token: str) -> Mapping[str, object]:
        check, tenant = self._state.tokens.check, self._state.machine.tenant_id
        try:
            return check(token, _AUDIENCES[1], tenant)
        except RefusedTokenError:
            return check(token, _AUDIENCES[0], tenant)

    def _refresh_token(self, service: str, claims: Mapping[str, object], lifetime: int) -> str:
        now = int(self._state.clock.time())
        key = self._state.tokens.key()
        content = {
            "aud": service,
            "exp": now + lifetime,
            "grant_type": "refresh_token",
            "iat": now,
            "iss": "Azure Container Registry",
            "jti": str(uuid.uuid4()),
            "nbf": now,
            "sub": claims.get("oid"),
            "tenant": claims.get("tid"),
            "version": "1.0",
        }
        return jwt.encode(content, key.private, algorithm="RS256", headers={"kid": key.id})
