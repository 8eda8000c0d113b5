"""The identity category: tokens and the tenant of a VM, and functions for other hosts."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from .._machine.identities import IdentityNotFoundError, Selector, find_identity
from .._machine.resources import is_known_resource
from .._messages import json_response
from .request_checks import ApiError, StateEndpoint, check_request

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._machine.identities import Identity
    from .._messages import Request, Response
    from .._state.fault import Fault
    from .._state.state import EmulatorState
    from .._state.tokens import IssuedToken

TOKEN_PATH = "/metadata/identity/oauth2/token"  # noqa: S105 - a path
# The older endpoint of Azure VM extensions and Cloud Shell, which go-autorest still uses.
FORM_TOKEN_PATH = "/oauth2/token"  # noqa: S105 - a path
INFO_PATH = "/metadata/identity/info"
INTRODUCED = "2018-02-01"
_SELECTORS = {
    "client_id": "client_id",
    "object_id": "object_id",
    "msi_res_id": "resource_id",
    "mi_res_id": "resource_id",
}
_MAX_RESOURCE_LENGTH = 1024


def selector_of(request: Request, parameters: Mapping[str, str] | None = None) -> Selector | None:
    """Return the identity selector of a request; ApiError if it has several."""
    found = [
        Selector(name, attribute, request.parameter(name) or "")
        for name, attribute in (parameters or _SELECTORS).items()
        if request.parameter(name) is not None
    ]
    if len(found) > 1:
        names = ", ".join(selector.parameter for selector in found)
        raise ApiError(400, f"At most one identity may be named; the request has {names}")
    if found and not found[0].value:
        raise ApiError(400, f"Query parameter {found[0].parameter!r} is empty")
    return found[0] if found else None


def resource_of(request: Request) -> str:
    """Return the requested resource; ApiError if there is none."""
    resource = request.parameter("resource")
    if not resource:
        raise ApiError(400, "Required query variable 'resource' is missing")
    if len(resource) > _MAX_RESOURCE_LENGTH:
        raise ApiError(400, "Query variable 'resource' is too long")
    return resource


def token_document(token: IssuedToken, now: float) -> dict[str, str]:
    """Return the response body for a token; only ``expires_in`` counts down, as in Azure."""
    return {
        "access_token": token.value,
        "expires_in": str(max(int(token.expires - now), 0)),
        "expires_on": str(token.expires),
        "ext_expires_in": str(token.lifetime),
        "not_before": str(token.not_before),
        "resource": token.resource,
        "token_type": "Bearer",
    }


def issue(
    state: EmulatorState, identity: Identity, request: Request, resource: str, fault: Fault | None
) -> IssuedToken:
    """Return a token for an identity; ApiError if the tenant does not know the resource."""
    if not is_known_resource(resource, state.resources):
        raise ApiError(400, _unknown_resource_message(resource, state), code="invalid_resource")
    principal = state.principal(identity)
    if fault is not None and fault.token_lifetime is not None:
        return state.tokens.token_expiring_in(principal, resource, fault.token_lifetime)
    bypass = request.parameter("bypass_cache") == "true"
    return state.tokens.token(principal, resource, bypass_cache=bypass)


def _unknown_resource_message(resource: str, state: EmulatorState) -> str:
    timestamp = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(state.clock.time()))
    return (
        f"AADSTS500011: The resource principal named {resource} was not found in the tenant named "
        f"{state.machine.tenant_id}. This can happen if the application has not been installed by "
        "the administrator of the tenant or consented to by any user in the tenant. You might "
        f"have sent your authentication request to the wrong tenant. Trace ID: {uuid.uuid4()} "
        f"Correlation ID: {uuid.uuid4()} Timestamp: {timestamp}"
    )


class TokenEndpoint(StateEndpoint):
    """``/metadata/identity/oauth2/token`` of a VM."""

    always_names_client = True  # in the field client_id, also without a selector

    def __call__(self, request: Request, fault: Fault | None) -> Response:
        self.check(request)
        resource = resource_of(request)
        selector = selector_of(request)
        _check_bypass(request)
        self.authorize(request)
        try:
            identity, echo = self.select_identity(selector)
        except IdentityNotFoundError as error:
            raise self.not_assigned(str(error)) from None
        token = issue(self._state, identity, request, resource, fault)
        return json_response(200, {**token_document(token, self._state.clock.time()), **echo})

    def check(self, request: Request) -> None:
        """Raise ApiError if the headers or the api-version of a request are not valid."""
        check_request(request, introduced=INTRODUCED, supported=self._state.versions)

    def not_assigned(self, message: str) -> ApiError:
        """Return the error for an identity that the machine does not have."""
        return ApiError(400, message)

    def authorize(self, request: Request) -> None:
        """Raise ApiError if a valid request is not authorized; a VM authorizes all."""

    def select_identity(self, selector: Selector | None) -> tuple[Identity, dict[str, str]]:
        """Return the selected identity, and the fields that name it in the response."""
        identity = find_identity(self._state.identities, selector)
        fields = {"client_id": identity.client_id} if self.always_names_client else {}
        if selector is not None:
            fields[selector.parameter] = getattr(identity, selector.attribute)
        return identity, fields


def _check_bypass(request: Request) -> None:
    if request.parameter("bypass_cache") not in (None, "true"):
        raise ApiError(400, "Query variable 'bypass_cache' must be 'true' when it is given")


class FormTokenEndpoint:
    """``/oauth2/token`` of VM extensions and Cloud Shell: a GET request, or a POST with a form."""

    def __init__(self, state: EmulatorState) -> None:
        self._endpoint = TokenEndpoint(state)

    def __call__(self, request: Request, fault: Fault | None) -> Response:
        query = list(request.query)
        if request.method == "POST":
            try:
                form = parse_qsl(request.body.decode(), keep_blank_values=True, max_num_fields=100)
            except ValueError:
                raise ApiError(400, "The body is not a form") from None
            query += form
        if request.parameter("api-version") is None:
            query.append(("api-version", INTRODUCED))
        method = "GET" if request.method == "POST" else request.method
        return self._endpoint(replace(request, method=method, query=tuple(query)), fault)


class InfoEndpoint(StateEndpoint):
    """``/metadata/identity/info``: the tenant."""

    def __call__(self, request: Request, _fault: Fault | None) -> Response:
        check_request(request, introduced=INTRODUCED, supported=self._state.versions)
        return json_response(200, {"tenantId": self._state.machine.tenant_id})
