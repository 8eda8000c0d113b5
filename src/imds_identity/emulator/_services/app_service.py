"""The token endpoint of App Service, Functions and Container Apps."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from .._machine.identities import IdentityNotFoundError, find_identity
from .._messages import json_response
from .request_checks import ApiError, StateEndpoint
from .token import issue, resource_of, selector_of

if TYPE_CHECKING:
    from .._messages import Request, Response
    from .._state.fault import Fault

PATH = "/msi/token"
_VERSION = "2019-08-01"
_SELECTORS = {
    "client_id": "client_id",
    "object_id": "object_id",
    "principal_id": "object_id",
    "mi_res_id": "resource_id",
}


class AppServiceTokenEndpoint(StateEndpoint):
    """``/msi/token``, which requires the secret in the ``X-IDENTITY-HEADER`` header."""

    def __call__(self, request: Request, fault: Fault | None) -> Response:
        if request.method != "GET":
            return _error(405, "Method not allowed")
        secret = (request.header("x-identity-header") or "").encode()
        if not hmac.compare_digest(secret, self._state.identity_header.encode()):
            return _error(401, "The X-IDENTITY-HEADER header is missing or wrong")
        if request.repeated_parameter() is not None:
            return _error(400, "A query parameter was given more than once")
        if request.parameter("api-version") != _VERSION:
            return _error(400, f"The api-version must be {_VERSION}")
        try:
            return self._token(request, fault)
        except (ApiError, IdentityNotFoundError) as error:
            return _error(400, str(error))

    def _token(self, request: Request, fault: Fault | None) -> Response:
        resource = resource_of(request)
        identity = find_identity(self._state.identities, selector_of(request, _SELECTORS))
        token = issue(self._state, identity, request, resource, fault)
        document = {
            "access_token": token.value,
            "expires_on": str(token.expires),
            "resource": resource,
            "token_type": "Bearer",
            "client_id": identity.client_id,
        }
        return json_response(200, document)


def _error(status: int, message: str) -> Response:
    return json_response(status, {"statusCode": status, "message": message})
