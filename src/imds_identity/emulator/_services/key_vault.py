"""A Key Vault with secrets, which verifies the tokens of its clients."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING

from .._messages import json_response
from .._state.tokens import RefusedTokenError, RevokedTokenError

if TYPE_CHECKING:
    from .._messages import Request, Response
    from .._state.fault import Fault
    from .._state.state import EmulatorState

AUDIENCE = "https://vault.azure.net"
_SECRETS = "/secrets"
_CREATED = 1_700_000_000
_ATTRIBUTES = {
    "enabled": True,
    "created": _CREATED,
    "updated": _CREATED,
    "recoveryLevel": "Recoverable+Purgeable",
}


class KeyVaultEndpoint:
    """The read-only API of a vault's secrets; ``url`` is the vault's URL."""

    def __init__(self, state: EmulatorState, url: str) -> None:
        self._state = state
        self._secrets = state.secrets
        self._base = url

    def __call__(self, request: Request, _fault: Fault | None) -> Response:
        challenge = self._authorize(request)
        if challenge is not None:
            return challenge
        if request.method != "GET":
            return _error(405, "MethodNotAllowed", "This vault is read-only.", {"Allow": "GET"})
        if not request.parameter("api-version"):
            return _error(400, "BadParameter", "api-version must be specified")
        _, _, rest = request.path.partition(_SECRETS)
        if request.path == _SECRETS:
            return self._list()
        name, _, version = rest.lstrip("/").partition("/")
        name = self._stored_name(name)
        if version == "versions" and name in self._secrets:
            return self._versions(name)
        return self._secret(name, version)

    def _stored_name(self, name: str) -> str:
        """Return the name of a secret as it is stored; names are case-insensitive."""
        return next((each for each in self._secrets if each.lower() == name.lower()), name)

    def _authorize(self, request: Request) -> Response | None:
        token = request.bearer_token()
        if token is None:
            return self._challenge("AKV10000: Request is missing a Bearer or PoP token.")
        try:
            self._state.tokens.check(token, AUDIENCE, self._state.machine.tenant_id)
        except RevokedTokenError as error:
            return self._challenge(str(error), self._claims())
        except RefusedTokenError as error:
            return self._challenge(str(error))
        return None

    def _challenge(self, message: str, claims: str | None = None) -> Response:
        tenant = self._state.machine.tenant_id
        challenge = (
            f'Bearer authorization="https://login.windows.net/{tenant}", resource="{AUDIENCE}"'
        )
        if claims is not None:
            challenge += f', error="insufficient_claims", claims="{claims}"'
        return _error(401, "Unauthorized", message, {"WWW-Authenticate": challenge})

    def _claims(self) -> str:
        # Continuous access evaluation requires a token that was issued from now on.
        now = str(int(self._state.clock.time()))
        claims = {"access_token": {"nbf": {"essential": True, "value": now}}}
        return base64.b64encode(json.dumps(claims).encode()).decode()

    def _list(self) -> Response:
        items = [self._item(name) for name in sorted(self._secrets)]
        return json_response(200, {"value": items, "nextLink": None})

    def _versions(self, name: str) -> Response:
        item = self._item(name, _version_of(name))
        return json_response(200, {"value": [item], "nextLink": None})

    def _secret(self, name: str, version: str) -> Response:
        value = self._secrets.get(name)
        if value is None or version not in ("", _version_of(name)):
            message = f"A secret with (name/id) {name[:127]} was not found in this key vault."
            return _error(404, "SecretNotFound", message)
        return json_response(200, {"value": value, **self._item(name, _version_of(name))})

    def _item(self, *path: str) -> dict[str, object]:
        return {"id": "/".join((self._base + _SECRETS, *path)), "attributes": _ATTRIBUTES}


def _version_of(name: str) -> str:
    # The id of the only version is a hash of the name: a hash of the value would reveal the value.
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def _error(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Response:
    return json_response(status, {"error": {"code": code, "message": message}}, headers)
