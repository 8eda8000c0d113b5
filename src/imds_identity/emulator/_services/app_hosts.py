"""The token endpoints of app platforms, where a secret in the environment identifies an app."""

from __future__ import annotations

import hashlib
import hmac
import time
import uuid
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from .._machine.identities import IdentityNotFoundError, SystemAssigned, find_identity
from .._messages import json_response, text_response
from .request_checks import ApiError, StateEndpoint
from .token import issue, resource_of, selector_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._machine.identities import Identity
    from .._messages import Request, Response
    from .._state.fault import Fault
    from .._state.tokens import IssuedToken

PATH = "/msi/token"
_FIRST_VERSION = "2017-09-01"
_NOT_FOUND = (
    "No User Assigned or Delegated Managed Identity found for specified "
    "ClientId/ResourceId/PrincipalId."
)


class Version(NamedTuple):
    """The header with the secret, and the attribute that each query parameter selects by."""

    secret_header: str
    selectors: Mapping[str, str]


class AppTokenEndpoint(StateEndpoint):
    """The token endpoint of an app platform."""

    versions: ClassVar[Mapping[str, Version]]

    def __call__(self, request: Request, fault: Fault | None) -> Response:
        version = request.parameter("api-version") or ""
        if version not in self.versions:
            return self.unsupported_version(request, version)
        rules = self.versions[version]
        try:
            self._check(request, rules)
            resource = resource_of(request)
            identity = self._identity(request, rules)
            token = issue(self._state, identity, request, resource, fault)
            token = self.refreshed(token, identity, request)
        except ApiError as error:
            return self.error(error, version)
        return json_response(200, self.document(token, version))

    def _check(self, request: Request, rules: Version) -> None:
        if request.method != "GET":
            raise ApiError(405, "Method not allowed")
        secret = request.header(rules.secret_header)
        if secret is None:
            raise self.secret_missing(rules.secret_header)
        if not hmac.compare_digest(secret.encode(), self._state.identity_header.encode()):
            raise self.secret_wrong(rules.secret_header)
        if request.repeated_parameter() is not None:
            raise ApiError(400, "A query parameter was given more than once")

    def _identity(self, request: Request, rules: Version) -> Identity:
        selector = selector_of(request, rules.selectors)
        try:
            identity = find_identity(self._state.identities, selector)
        except IdentityNotFoundError:
            raise self.not_assigned() from None
        # Unlike a VM, these hosts never fall back to the only user-assigned identity.
        if selector is None and not isinstance(identity, SystemAssigned):
            raise self.not_assigned()
        return identity

    def secret_missing(self, header: str) -> ApiError:
        """Return the error for a request without the secret."""
        return ApiError(401, f"The {header} header is missing")

    def secret_wrong(self, header: str) -> ApiError:
        """Return the error for a request with a wrong secret."""
        return ApiError(401, f"The {header} header is wrong")

    def not_assigned(self) -> ApiError:
        """Return the error for an identity that the app does not have."""
        return ApiError(400, _NOT_FOUND)

    def unsupported_version(self, request: Request, version: str) -> Response:
        """Return the response to another api-version; it is empty if there is none."""
        code = "ApiVersionUnspecified"
        message = "An API version is required, but was not specified."
        if version:
            code = "UnsupportedApiVersion"
            message = (
                f"The HTTP resource that matches the request URI '{request.target}' "
                f"does not support the API version '{version}'."
            )
        error = {"code": code, "message": message, "innerError": None}
        return json_response(400, {"error": error})

    def refreshed(self, token: IssuedToken, _identity: Identity, _request: Request) -> IssuedToken:
        """Return the token, or a new one if the request refuses it."""
        return token

    def document(self, token: IssuedToken, _version: str) -> dict[str, object]:
        """Return the body of a response."""
        return {
            "access_token": token.value,
            "expires_on": str(token.expires),
            "resource": token.resource,
            "token_type": "Bearer",
        }

    def error(self, error: ApiError, version: str) -> Response:
        """Return the response for an error."""
        document = {
            "statusCode": error.status,
            "message": error.message,
            "correlationId": str(uuid.uuid4()),
        }
        if version == _FIRST_VERSION:
            document = {name[0].upper() + name[1:]: value for name, value in document.items()}
        return json_response(error.status, document)


class AppServiceTokenEndpoint(AppTokenEndpoint):
    """``/msi/token`` of App Service, Functions and Container Apps."""

    versions: ClassVar[Mapping[str, Version]] = {
        _FIRST_VERSION: Version("secret", {"clientid": "client_id"}),
        "2019-08-01": Version(
            "x-identity-header",
            {
                "client_id": "client_id",
                "object_id": "object_id",
                "principal_id": "object_id",
                "mi_res_id": "resource_id",
            },
        ),
    }

    def document(self, token: IssuedToken, version: str) -> dict[str, object]:
        """Return the body of a response; the first version writes the expiry as a date."""
        fields = super().document(token, version)
        if version == _FIRST_VERSION:
            windows = self._state.machine.os_type == "Windows"
            return {**fields, "expires_on": _formatted_expiry(token, windows=windows)}
        return {**fields, "client_id": token.client_id}


def _formatted_expiry(token: IssuedToken, *, windows: bool) -> str:
    moment = time.gmtime(token.expires)
    if not windows:
        return time.strftime("%m/%d/%Y %H:%M:%S +00:00", moment)
    day = f"{moment.tm_mon}/{moment.tm_mday}/{moment.tm_year}"
    return f"{day} {(moment.tm_hour - 1) % 12 + 1}{time.strftime(':%M:%S %p', moment)} +00:00"


class MachineLearningTokenEndpoint(AppTokenEndpoint):
    """``/msi/token`` of Azure Machine Learning, which ignores selectors but ``clientid``."""

    versions: ClassVar[Mapping[str, Version]] = {
        _FIRST_VERSION: Version("secret", {"clientid": "client_id"})
    }


class ContainerInstancesTokenEndpoint(AppTokenEndpoint):
    """The token endpoint of Container Instances on Windows; its errors are plain text."""

    versions: ClassVar[Mapping[str, Version]] = {
        "1.0": Version("secret", {"principalId": "object_id"}),
    }

    def unsupported_version(self, _request: Request, version: str) -> Response:
        """Return the response to another api-version."""
        return text_response(400, f"The api-version '{version}' is not supported")

    def error(self, error: ApiError, _version: str) -> Response:
        """Return the response for an error."""
        return text_response(error.status, error.message)


class ServiceFabricTokenEndpoint(AppTokenEndpoint):
    """The token endpoint of Service Fabric."""

    versions: ClassVar[Mapping[str, Version]] = {
        "2019-07-01-preview": Version("secret", {}),
        "2020-05-01": Version("secret", {"principalId": "object_id"}),
    }

    def secret_missing(self, _header: str) -> ApiError:
        """Return the error for a request without the secret."""
        message = "Secret is not found in the request headers."
        return ApiError(400, message, code="SecretHeaderNotFound")

    def secret_wrong(self, _header: str) -> ApiError:
        """Return the error for a request with a wrong secret."""
        return self.not_assigned()

    def not_assigned(self) -> ApiError:
        """Return the error for an identity that the application does not have."""
        message = "Managed identity not found for the specified application host."
        return ApiError(404, message, code="ManagedIdentityNotFound")

    def unsupported_version(self, _request: Request, version: str) -> Response:
        """Return the response to another api-version."""
        message = f"The api-version '{version}' is not supported. Supported version is '2020-05-01'"
        return self.error(ApiError(400, message, code="InvalidApiVersion"), version)

    def refreshed(self, token: IssuedToken, identity: Identity, request: Request) -> IssuedToken:
        """Return a new token if the request has the hash of the cached one."""
        refused = request.parameter("token_sha256_to_refresh") or ""
        if not hmac.compare_digest(refused.lower().encode(), _sha256(token)):
            return token
        principal = self._state.principal(identity)
        return self._state.tokens.token(principal, token.resource, bypass_cache=True)

    def document(self, token: IssuedToken, version: str) -> dict[str, object]:
        """Return the body of a response; the expiry is a number."""
        return {**super().document(token, version), "expires_on": token.expires}

    def error(self, error: ApiError, _version: str) -> Response:
        """Return the response for an error."""
        document = {
            "code": error.code or "ArgumentNullOrEmpty",
            "message": error.message,
            "correlationId": str(uuid.uuid4()),
        }
        return json_response(error.status, {"error": document})


def _sha256(token: IssuedToken) -> bytes:
    return hashlib.sha256(token.value.encode()).hexdigest().encode()
