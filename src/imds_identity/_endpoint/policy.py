"""The access policy: which requests are granted. It needs no sockets, clocks or tokens.

The endpoint supports App Service's protocol, and IMDS's under a path that contains the secret.
https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference
https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token
"""

from __future__ import annotations

import hmac
import sys
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl

from .._core.failure import sanitize
from .._core.identity import SYSTEM_ASSIGNED, Identity, ascii_lower, parse_identity
from .._core.scope import resource_of
from .responses import GrantedRequest, Refusal

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from .._core.secret import Secret

APP_SERVICE_PATH = "/msi/token"
IMDS_PATH = "/metadata/identity/oauth2/token"
_SECRET_HEADERS = ("x-identity-header", "secret")
_APP_SERVICE_VERSIONS = ("2019-08-01", "2017-09-01")
_SELECTORS = {
    "client_id": "client_id",
    "clientid": "client_id",
    "object_id": "object_id",
    "principal_id": "object_id",
    "mi_res_id": "resource_id",
    "msi_res_id": "resource_id",
}
_MAX_PARAMETERS = 20


def app_service_variables(url: str, secret: Secret) -> dict[str, str]:
    """Return the environment variables that announce an endpoint with App Service's protocol."""
    variables = {"IDENTITY_ENDPOINT": url + APP_SERVICE_PATH, "IDENTITY_HEADER": secret.reveal()}
    if sys.platform == "win32":  # there, these two alone mean Container Instances
        variables["IMDS_IDENTITY_ENDPOINT"] = "app-service"
    return variables


class HttpRequest:
    """A request as received. Its repr omits the headers, because one contains the secret.

    ``target`` is path and query. The names of ``headers`` are in lower case. ``hosts`` are the
    values that the Host field may have. ``uid`` is set only for clients of a Unix socket.
    """

    __slots__ = ("headers", "hosts", "method", "target", "uid")

    def __init__(
        self,
        method: str,
        target: str,
        headers: Iterable[tuple[str, str]],
        hosts: frozenset[str] = frozenset(),
        uid: int | None = None,
    ) -> None:
        self.method = method
        self.target = target
        self.headers = tuple(headers)
        self.hosts = hosts
        self.uid = uid

    def values(self, name: str) -> list[str]:
        """Return all values of a header field."""
        return [value for field, value in self.headers if field == name]


class AccessPolicy(NamedTuple):
    """The rules for which clients may get which tokens.

    A client must send the secret in a header, or (IMDS's protocol) in the path; only the users
    ``uids`` of a Unix socket need no secret. Without ``identity``, the client chooses. Without
    ``resources``, all are allowed. ``names`` are additional host names of this machine.
    """

    secret: Secret
    identity: Identity | None = None
    resources: Collection[str] | None = None
    app_service: bool = True
    imds: bool = False
    names: Collection[str] = ()
    uids: Collection[int] = ()


def authorize(request: HttpRequest, policy: AccessPolicy) -> GrantedRequest:
    """Return the token request that ``policy`` grants."""
    _check_origin(request, policy)
    if request.method != "GET":
        raise Refusal(405, "Only GET is supported.", Allow="GET")
    path, _, query = request.target.partition("?")
    imds = _is_imds(path, request, policy)
    values = _parameters(query)
    if not imds and values.get("api-version") not in _APP_SERVICE_VERSIONS:
        raise Refusal(400, f"api-version must be one of {', '.join(_APP_SERVICE_VERSIONS)}.")
    return GrantedRequest(_resource(values, policy), _identity(values, policy), imds)


def _check_origin(request: HttpRequest, policy: AccessPolicy) -> None:
    """Refuse requests of proxies, web pages and users that are not allowed."""
    for name, _ in request.headers:
        if name in ("origin", "forwarded", "via") or name.startswith("x-forwarded-"):
            raise Refusal(
                403, f"The header {sanitize(name)} shows that a proxy or web page sent the request."
            )
    if request.uid is not None and request.uid not in policy.uids:
        raise Refusal(403, f"The user with uid {request.uid} may not use this endpoint.")
    # DNS rebinding: a web page can send requests to any address, but under its own host name only.
    hosts = [host.lower() for host in request.values("host")]
    if len(hosts) != 1 or hosts[0] not in request.hosts:
        raise Refusal(403, "The Host header does not name this endpoint.")


def _is_imds(path: str, request: HttpRequest, policy: AccessPolicy) -> bool:
    """Return whether the request uses IMDS's protocol, after checking the secret."""
    if policy.app_service and path == APP_SERVICE_PATH:
        given = [value for name in _SECRET_HEADERS for value in request.values(name)]
        if request.uid is None and not (len(given) == 1 and _is_secret(given[0], policy)):
            raise Refusal(
                401, "The header X-IDENTITY-HEADER with this endpoint's secret is missing."
            )
        return False
    # Some clients append a slash; MSAL for Java has two before the path.
    prefix, found, rest = path.removesuffix("/").partition(IMDS_PATH)
    given_secret = prefix[1:].removesuffix("/")
    if not policy.imds or not found or rest or not _is_secret(given_secret, policy):
        raise Refusal(404, "Path not found.")
    if [value.lower() for value in request.values("metadata")] != ["true"]:
        raise Refusal(400, "Bad request. Required metadata header not specified")
    return True


def _is_secret(given: str, policy: AccessPolicy) -> bool:
    return hmac.compare_digest(given.encode(), policy.secret.reveal().encode())


def _parameters(query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(
            query, errors="strict", max_num_fields=_MAX_PARAMETERS, keep_blank_values=True
        )
    except ValueError:
        raise Refusal(400, "The query cannot be parsed.") from None
    values = {name.lower(): value for name, value in pairs}
    if len(values) != len(pairs):
        raise Refusal(400, "A query parameter is repeated.")
    return values


def _resource(values: dict[str, str], policy: AccessPolicy) -> str:
    try:
        resource = resource_of((values.get("resource", ""),))
    except ValueError as error:
        raise Refusal(400, sanitize(f"resource: {error}")) from None
    allowed = policy.resources
    if allowed is not None and _normalized(resource) not in map(_normalized, allowed):
        raise Refusal(403, f"This endpoint does not allow tokens for {sanitize(resource)}.")
    return resource


def _identity(values: dict[str, str], policy: AccessPolicy) -> Identity:
    given = [(_SELECTORS[name], values[name]) for name in _SELECTORS if values.get(name)]
    if len(given) > 1:
        raise Refusal(400, "Select an identity by one parameter only.")
    try:
        requested = parse_identity(identity_config=dict(given)) if given else None
    except ValueError as error:
        raise Refusal(400, sanitize(str(error))) from None
    if policy.identity is None or requested is None:
        return requested or policy.identity or SYSTEM_ASSIGNED
    if _comparable(requested) != _comparable(policy.identity):
        raise Refusal(
            403, f"This endpoint allows tokens of the {_described(policy.identity)} only."
        )
    return policy.identity


def _comparable(identity: Identity) -> tuple[str, str]:
    return identity.selector, ascii_lower(identity.value)


def _described(identity: Identity) -> str:
    return f"identity with {identity}" if identity.selector else str(identity)


def _normalized(resource: str) -> str:
    return ascii_lower(resource.removesuffix("/.default").rstrip("/"))
