"""The OpenID configuration and the JWKS that verify the emulator's tokens (RFC 7517)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._messages import json_response
from .._state.tokens import issuer_url
from .request_checks import check_method

if TYPE_CHECKING:
    from .._messages import Request, Response
    from .._state.fault import Fault
    from .._state.state import EmulatorState

JWKS_PATH = "/common/discovery/keys"


def configuration_path(tenant_id: str) -> str:
    """Return the path of a tenant's OpenID configuration."""
    return f"/{tenant_id}/.well-known/openid-configuration"


class OpenIdEndpoint:
    """Returns the OpenID configuration or the public key, with URLs that start with ``base``."""

    def __init__(self, state: EmulatorState, base: str) -> None:
        self._tokens = state.tokens
        self._tenant_id = tenant_id = state.machine.tenant_id
        self._base = base
        self.paths = (configuration_path(tenant_id), JWKS_PATH)

    def __call__(self, request: Request, _fault: Fault | None) -> Response:
        check_method(request)
        if request.path == JWKS_PATH:
            return json_response(200, {"keys": [self._tokens.key().jwk]})
        base = self._base
        document = {
            "issuer": issuer_url(self._tenant_id),
            "authorization_endpoint": f"{base}/{self._tenant_id}/oauth2/authorize",
            "token_endpoint": f"{base}/{self._tenant_id}/oauth2/token",
            "jwks_uri": f"{base}{JWKS_PATH}",
            "response_types_supported": ["code", "id_token"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }
        return json_response(200, document)
