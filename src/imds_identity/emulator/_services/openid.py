"""What a service needs to verify our tokens: OpenID configuration and JWKS (RFC 7517)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._messages import json_response
from .._state.tokens import issuer_of
from .rules import metadata_error, method_complaint

if TYPE_CHECKING:
    from .._messages import Request, Response
    from .._state.fault import Fault
    from .._state.state import World

JWKS_PATH = "/common/discovery/keys"


def configuration_path(tenant_id: str) -> str:
    """Where a tenant's OpenID configuration lies."""
    return f"/{tenant_id}/.well-known/openid-configuration"


class OpenIdEndpoint:
    """Serves the OpenID configuration and the public key.

    Args:
        world: the shared state.
        base: the scheme and host that the documents are reached under.
    """

    def __init__(self, world: World, base: str) -> None:
        self._tokens = world.tokens
        self._tenant_id = tenant_id = world.machine.tenant_id
        self._base = base
        self.paths = (configuration_path(tenant_id), JWKS_PATH)

    def __call__(self, request: Request, fault: Fault | None) -> Response:
        """Answer with one of the documents."""
        del fault
        complaint = method_complaint(request)
        if complaint is not None:
            return metadata_error(complaint)
        if request.path == JWKS_PATH:
            return json_response(200, {"keys": [self._tokens.key().jwk]})
        base = self._base
        return json_response(
            200,
            {
                "issuer": issuer_of(self._tenant_id),
                "authorization_endpoint": f"{base}/{self._tenant_id}/oauth2/authorize",
                "token_endpoint": f"{base}/{self._tenant_id}/oauth2/token",
                "jwks_uri": f"{base}{JWKS_PATH}",
                "response_types_supported": ["code", "id_token"],
                "subject_types_supported": ["pairwise"],
                "id_token_signing_alg_values_supported": ["RS256"],
            },
        )
