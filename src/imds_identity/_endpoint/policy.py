"""Which requests are granted, decided without sockets, clocks and tokens.

App Service's protocol is understood, and IMDS's under a path that is as secret as a header.
https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference
https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from .._core.failure import sanitize
from .._core.identity import SYSTEM_ASSIGNED, Identity, ascii_lower, parse_identity
from .._core.scope import resource_of
from .responses import Refusal, Wanted

if TYPE_CHECKING:
    from collections.abc import Iterable

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
_MOST_PARAMETERS = 20


class Asked:
    """A request as it came. Its repr shows no header: one is secret.

    Attributes:
        method: the HTTP method.
        target: path and query, as they were sent.
        headers: header fields, names in lower case.
        hosts: what this connection's Host field may say.
        uid: who is at the other end of a Unix socket.
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
        """All values of a header field."""
        return [value for field, value in self.headers if field == name]


class Rules:
    """Who gets tokens here, and which.

    Args:
        secret: what a request must know, in a header or (IMDS's protocol) in its path.
        identity: whose tokens are given; None for whichever the request names.
        resources: what tokens are given for; None for any.
        app_service: whether App Service's protocol is spoken.
        imds: whether IMDS's is.
        names: host names under which this machine is known to its clients.
        uids: who may ask over a Unix socket; they need no secret.
    """

    def __init__(
        self,
        secret: Secret,
        *,
        identity: Identity | None = None,
        resources: Iterable[str] | None = None,
        app_service: bool = True,
        imds: bool = False,
        names: Iterable[str] = (),
        uids: Iterable[int] = (),
    ) -> None:
        self.secret = secret
        self.identity = identity
        self.resources = None if resources is None else frozenset(map(_bare, resources))
        self.app_service = app_service
        self.imds = imds
        self.names = frozenset(name.lower() for name in names)
        self.uids = frozenset(uids)


def wanted_of(asked: Asked, rules: Rules) -> Wanted:
    """The token that ``asked`` is about.

    Raises:
        Refusal: if it is not to be had by this request.
    """
    _check_origin(asked, rules)
    if asked.method != "GET":
        raise Refusal(405, "Only GET is understood here.", Allow="GET")
    path, _, query = asked.target.partition("?")
    imds = _is_imds(path, asked, rules)
    values = _parameters(query)
    if not imds and values.get("api-version") not in _APP_SERVICE_VERSIONS:
        raise Refusal(400, f"api-version must be one of {', '.join(_APP_SERVICE_VERSIONS)}.")
    return Wanted(_resource(values, rules), _identity(values, rules), imds)


def _check_origin(asked: Asked, rules: Rules) -> None:
    """Refuse what comes by way of a proxy, of a web page, or of a user who is not meant."""
    for name, _ in asked.headers:
        if name in ("origin", "forwarded", "via") or name.startswith("x-forwarded-"):
            raise Refusal(403, f"A request with {sanitize(name)} does not come from this machine.")
    if asked.uid is not None and asked.uid not in rules.uids:
        raise Refusal(403, f"The user with uid {asked.uid} may not ask here.")
    # A web page can make a browser ask any address, but only under a name of its own.
    hosts = [host.lower() for host in asked.values("host")]
    if len(hosts) != 1 or hosts[0] not in asked.hosts:
        raise Refusal(403, "The Host field does not name this endpoint.")


def _is_imds(path: str, asked: Asked, rules: Rules) -> bool:
    """Whether ``asked`` speaks IMDS's protocol, once it is clear that it knows the secret."""
    if rules.app_service and path == APP_SERVICE_PATH:
        given = [value for name in _SECRET_HEADERS for value in asked.values(name)]
        if asked.uid is None and not (len(given) == 1 and _is_secret(given[0], rules)):
            raise Refusal(
                401, "The header X-IDENTITY-HEADER with this endpoint's secret is missing."
            )
        return False
    # Some clients put a slash after it.
    prefix, found, rest = path.removesuffix("/").partition(IMDS_PATH)
    if not rules.imds or not found or rest or not _is_secret(prefix[1:], rules):
        raise Refusal(404, "There is no such path here.")
    if [value.lower() for value in asked.values("metadata")] != ["true"]:
        raise Refusal(400, "Bad request. Required metadata header not specified")
    return True


def _is_secret(given: str, rules: Rules) -> bool:
    return hmac.compare_digest(given.encode(), rules.secret.reveal().encode())


def _parameters(query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(
            query, errors="strict", max_num_fields=_MOST_PARAMETERS, keep_blank_values=True
        )
    except ValueError:
        raise Refusal(400, "The query is not understood.") from None
    values = {name.lower(): value for name, value in pairs}
    if len(values) != len(pairs):
        raise Refusal(400, "A parameter is given twice.")
    return values


def _resource(values: dict[str, str], rules: Rules) -> str:
    try:
        resource = resource_of((values.get("resource", ""),))
    except ValueError as error:
        raise Refusal(400, sanitize(f"resource: {error}")) from None
    if rules.resources is not None and _bare(resource) not in rules.resources:
        raise Refusal(403, f"This endpoint gives no tokens for {sanitize(resource)}.")
    return resource


def _identity(values: dict[str, str], rules: Rules) -> Identity:
    given = [(_SELECTORS[name], values[name]) for name in _SELECTORS if values.get(name)]
    if len(given) > 1:
        raise Refusal(400, "An identity is selected by one parameter only.")
    try:
        asked = parse_identity(identity_config=dict(given)) if given else None
    except ValueError as error:
        raise Refusal(400, sanitize(str(error))) from None
    if rules.identity is None or asked is None:
        return asked or rules.identity or SYSTEM_ASSIGNED
    if (asked.selector, ascii_lower(asked.value)) != _comparable(rules.identity):
        raise Refusal(
            403, f"This endpoint speaks for the {_described(rules.identity)} and for no other."
        )
    return rules.identity


def _comparable(identity: Identity) -> tuple[str, str]:
    return identity.selector, ascii_lower(identity.value)


def _described(identity: Identity) -> str:
    return f"identity with {identity}" if identity.selector else str(identity)


def _bare(resource: str) -> str:
    return ascii_lower(resource.removesuffix("/.default").rstrip("/"))
