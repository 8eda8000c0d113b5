"""The token endpoint of App Service, Functions and Container Apps."""

from __future__ import annotations

import hmac
import time
import uuid
from typing import TYPE_CHECKING, NamedTuple

from .._machine.identities import IdentityNotFoundError, SystemAssigned, find_identity
from .._messages import json_response
from .request_checks import ApiError, StateEndpoint
from .token import issue, resource_of, selector_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._machine.identities import Identity
    from .._messages import Request, Response
    from .._state.fault import Fault
    from .._state.tokens import IssuedToken

PATH = "/msi/token"
_NOT_FOUND = (
    "No User Assigned or Delegated Managed Identity found for specified "
    "ClientId/ResourceId/PrincipalId."
)


class _Version(NamedTuple):
    secret_header: str
    selectors: Mapping[str, str]  # query parameters, with the attributes that they select by


_FIRST_VERSION = "2017-09-01"
_VERSIONS = {
    _FIRST_VERSION: _Version("secret", {"clientid": "client_id"}),
    "2019-08-01": _Version(
        "x-identity-header",
        {
            "client_id": "client_id",
            "object_id": "object_id",
            "principal_id": "object_id",
            "mi_res_id": "resource_id",
        },
    ),
}


class AppServiceTokenEndpoint(StateEndpoint):
    """``/msi/token``, which requires the secret of the environment in a header."""

    def __call__(self, request: Request, fault: Fault | None) -> Response:
        version = request.parameter("api-version") or ""
        if version not in _VERSIONS:
            return _unsupported_version(request, version)
        try:
            return json_response(200, self._token(request, fault, version))
        except ApiError as error:
            return _error(error, version)

    def _token(self, request: Request, fault: Fault | None, version: str) -> dict[str, str]:
        rules = _VERSIONS[version]
        if request.method != "GET":
            raise ApiError(405, "Method not allowed")
        secret = (request.header(rules.secret_header) or "").encode()
        if not hmac.compare_digest(secret, self._state.identity_header.encode()):
            raise ApiError(401, f"The {rules.secret_header} header is missing or wrong")
        if request.repeated_parameter() is not None:
            raise ApiError(400, "A query parameter was given more than once")
        resource = resource_of(request)
        identity = self._identity(request, rules)
        token = issue(self._state, identity, request, resource, fault)
        document = {
            "access_token": token.value,
            "expires_on": str(token.expires),
            "resource": resource,
            "token_type": "Bearer",
        }
        if version == _FIRST_VERSION:
            return {**document, "expires_on": self._formatted_expiry(token)}
        return {**document, "client_id": identity.client_id}

    def _identity(self, request: Request, rules: _Version) -> Identity:
        selector = selector_of(request, rules.selectors)
        try:
            identity = find_identity(self._state.identities, selector)
        except IdentityNotFoundError:
            raise ApiError(400, _NOT_FOUND) from None
        # Unlike a VM, App Service never falls back to the only user-assigned identity.
        if selector is None and not isinstance(identity, SystemAssigned):
            raise ApiError(400, _NOT_FOUND)
        return identity

    def _formatted_expiry(self, token: IssuedToken) -> str:
        """Return the expiry as a date, which Windows writes with AM or PM."""
        moment = time.gmtime(token.expires)
        if self._state.machine.os_type != "Windows":
            return time.strftime("%m/%d/%Y %H:%M:%S +00:00", moment)
        day = f"{moment.tm_mon}/{moment.tm_mday}/{moment.tm_year}"
        return f"{day} {(moment.tm_hour - 1) % 12 + 1}{time.strftime(':%M:%S %p', moment)} +00:00"


def _error(error: ApiError, version: str) -> Response:
    document = {
        "statusCode": error.status,
        "message": error.message,
        "correlationId": str(uuid.uuid4()),
    }
    if version == _FIRST_VERSION:
        document = {name[0].upper() + name[1:]: value for name, value in document.items()}
    return json_response(error.status, document)


def _unsupported_version(request: Request, version: str) -> Response:
    code, message = "ApiVersionUnspecified", "An API version is required, but was not specified."
    if version:
        code = "UnsupportedApiVersion"
        message = (
            f"The HTTP resource that matches the request URI '{request.target}' "
            f"does not support the API version '{version}'."
        )
    error = {"code": code, "message": message, "innerError": None}
    return json_response(400, {"error": error})
