"""The identity category: tokens and the tenant, on a VM and behind other hosts' front doors."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from .._machine.identities import IdentityNotFoundError, Selector, find_identity
from .._machine.resources import is_known
from .._messages import json_response
from .rules import Complaint, identity_error, json_only_complaint, request_complaint

if TYPE_CHECKING:
    from .._machine.identities import Identity
    from .._messages import Request, Response
    from .._state.fault import Fault
    from .._state.state import World
    from .._state.tokens import IssuedToken

TOKEN_PATH = "/metadata/identity/oauth2/token"  # noqa: S105 - a path
# The older endpoint of Azure VM extensions and Cloud Shell, which go-autorest still posts to.
FORM_TOKEN_PATH = "/oauth2/token"  # noqa: S105 - a path
INFO_PATH = "/metadata/identity/info"
INTRODUCED = "2018-02-01"
_SELECTORS = {
    "client_id": "client_id",
    "object_id": "object_id",
    "msi_res_id": "resource_id",
    "mi_res_id": "resource_id",
}
_LONGEST_RESOURCE = 1024


class BadTokenRequestError(ValueError):
    """A token request that names no resource, or its identity wrongly."""


class UnknownResourceError(ValueError):
    """No service principal of the tenant stands for the resource; in the words of Entra."""


def selector_of(request: Request, parameters: dict[str, str] | None = None) -> Selector | None:
    """Which identity a token request names.

    Args:
        request: the request.
        parameters: the names of its selectors, each with the identity's attribute.

    Returns:
        The selector, or None when it names none.

    Raises:
        BadTokenRequestError: if it names an identity twice, or emptily.
    """
    found = [
        Selector(name, attribute, request.parameter(name) or "")
        for name, attribute in (parameters or _SELECTORS).items()
        if request.parameter(name) is not None
    ]
    if len(found) > 1:
        names = ", ".join(selector.parameter for selector in found)
        raise BadTokenRequestError(f"At most one identity may be named; the request has {names}")
    if found and not found[0].value:
        raise BadTokenRequestError(f"Query parameter {found[0].parameter!r} is empty")
    return found[0] if found else None


def resource_of(request: Request) -> str:
    """The resource that a token is asked for.

    Raises:
        BadTokenRequestError: if there is none.
    """
    resource = request.parameter("resource")
    if not resource:
        raise BadTokenRequestError("Required query variable 'resource' is missing")
    if len(resource) > _LONGEST_RESOURCE:
        raise BadTokenRequestError("Query variable 'resource' is too long")
    return resource


def token_document(token: IssuedToken) -> dict[str, Any]:
    """A token as the identity category answers it: every number is a string.

    ``expires_in`` counts from issuance, as the real service's does for a token out of its cache.
    """
    return {
        "access_token": token.value,
        "expires_in": str(token.lifetime),
        "expires_on": str(token.expires),
        "ext_expires_in": str(token.lifetime),
        "not_before": str(token.issued),
        "resource": token.resource,
        "token_type": "Bearer",
    }


def issue(
    world: World, identity: Identity, request: Request, resource: str, fault: Fault | None
) -> IssuedToken:
    """A token for an identity, as the cache, the request and a fault have it.

    Raises:
        UnknownResourceError: if the tenant knows no such resource.
    """
    if not is_known(resource, world.resources):
        raise UnknownResourceError(_unknown(resource, world))
    principal = world.principal(identity)
    if fault is not None and fault.token_lifetime is not None:
        return world.tokens.token_with_left(principal, resource, fault.token_lifetime)
    bypass = request.parameter("bypass_cache") == "true"
    return world.tokens.token(principal, resource, bypass_cache=bypass)


def _unknown(resource: str, world: World) -> str:
    moment = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(world.clock.time()))
    return (
        f"AADSTS500011: The resource principal named {resource} was not found in the tenant named "
        f"{world.machine.tenant_id}. This can happen if the application has not been installed by "
        "the administrator of the tenant or consented to by any user in the tenant. You might "
        f"have sent your authentication request to the wrong tenant. Trace ID: {uuid.uuid4()} "
        f"Correlation ID: {uuid.uuid4()} Timestamp: {moment}"
    )


class TokenEndpoint:
    """``/metadata/identity/oauth2/token`` as a VM has it.

    Args:
        world: the shared state.
    """

    def __init__(self, world: World) -> None:
        self.world = world

    def __call__(self, request: Request, fault: Fault | None) -> Response:
        """Answer a token request."""
        complaint = request_complaint(
            request, introduced=INTRODUCED, supported=self.world.versions
        ) or json_only_complaint(request)
        if complaint is not None:
            return identity_error(complaint)
        try:
            resource = resource_of(request)
            selector = selector_of(request)
            _check_bypass(request)
            refusal = self.refuse(request)
            return refusal or self._token(request, resource, selector, fault)
        except (BadTokenRequestError, IdentityNotFoundError) as error:
            return identity_error(Complaint(400, str(error)))
        except UnknownResourceError as error:
            return identity_error(Complaint(400, str(error), code="invalid_resource"))

    def refuse(self, request: Request) -> Response | None:
        """The refusal of a request that keeps every rule; a VM has none."""
        del request
        return None

    def choose(self, selector: Selector | None) -> tuple[Identity, dict[str, str]]:
        """The identity, and what of the selector the answer echoes."""
        identity = find_identity(self.world.identities, selector)
        if selector is None:
            return identity, {}
        return identity, {selector.parameter: getattr(identity, selector.attribute)}

    def _token(
        self, request: Request, resource: str, selector: Selector | None, fault: Fault | None
    ) -> Response:
        identity, echo = self.choose(selector)
        token = issue(self.world, identity, request, resource, fault)
        return json_response(200, {**token_document(token), **echo})


def _check_bypass(request: Request) -> None:
    if request.parameter("bypass_cache") not in (None, "true"):
        raise BadTokenRequestError("Query variable 'bypass_cache' must be 'true' when it is given")


class FormTokenEndpoint:
    """``/oauth2/token`` as VM extensions and Cloud Shell had it: a GET, or a form in a POST.

    Args:
        world: the shared state.
    """

    def __init__(self, world: World) -> None:
        self._endpoint = TokenEndpoint(world)

    def __call__(self, request: Request, fault: Fault | None) -> Response:
        """Answer a token request."""
        query = list(request.query)
        if request.method == "POST":
            try:
                form = parse_qsl(request.body.decode(), keep_blank_values=True, max_num_fields=100)
            except ValueError:
                return identity_error(Complaint(400, "The body is no form"))
            query += form
        if request.parameter("api-version") is None:
            query.append(("api-version", INTRODUCED))
        method = "GET" if request.method == "POST" else request.method
        return self._endpoint(replace(request, method=method, query=tuple(query)), fault)


class InfoEndpoint:
    """``/metadata/identity/info``: the tenant.

    Args:
        world: the shared state.
    """

    def __init__(self, world: World) -> None:
        self._world = world

    def __call__(self, request: Request, fault: Fault | None) -> Response:
        """Answer an info request."""
        del fault
        complaint = request_complaint(
            request, introduced=INTRODUCED, supported=self._world.versions
        ) or json_only_complaint(request)
        if complaint is not None:
            return identity_error(complaint)
        return json_response(200, {"tenantId": self._world.machine.tenant_id})
