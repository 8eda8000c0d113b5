"""Transports that send nothing but what they are told, made of those that were given.

A transport may bring what must not go to a metadata service, or must not see its secret: proxies,
cookies, passwords, redirects. So requests are sent by a twin, which has the transport's own
configuration (TLS, sizes, hooks, aiohttp's connector) and a session of ours. A kind that is not
known well enough for that is used itself, with options that say the same as far as it honours them.
"""

from __future__ import annotations

import copy
import sys
import warnings
from collections import OrderedDict
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from azure.core.pipeline.transport import (
    AsyncHttpTransport,
    AsyncioRequestsTransport,
    HttpTransport,
    RequestsTransport,
)
from azure.core.pipeline.transport._bigger_block_size_http_adapters import (
    BiggerBlockSizeHTTPAdapter,
)
from requests.adapters import HTTPAdapter

from ..._core.failure import Reason, Refused
from ..._http.requests_transport import BoundedAdapter, BoundedSession

if TYPE_CHECKING:
    from ..._http.messages import Request
    from ..._platform.clock import Clock

_ISOLATED_TYPES = (RequestsTransport, AsyncioRequestsTransport)
_HARMLESS = ("cert", "hooks")
_PLAIN_ADAPTERS = (HTTPAdapter, BiggerBlockSizeHTTPAdapter)


def is_async(transport: Any) -> bool:
    """Whether ``transport`` is to be awaited; some are both, by their ancestry."""
    return isinstance(transport, AsyncHttpTransport) or not isinstance(transport, HttpTransport)


def check_transport(transport: Any) -> None:
    """Refuse a transport that cannot be kept from proxies, or that runs on no asyncio loop.

    Also imports what its first request would import otherwise.

    Raises:
        TypeError: for trio's.
        ValueError: for one that follows the environment's proxies and cannot be told not to.
    """
    if type(transport).__name__ == "TrioRequestsTransport":
        raise TypeError("TrioRequestsTransport runs on trio only; use AsyncioRequestsTransport")
    known = _aiohttp_transport()
    is_for_aiohttp = known is not None and isinstance(transport, known)
    if isinstance(transport, AsyncioRequestsTransport):
        import azure.core.rest._requests_asyncio
    if is_for_aiohttp:
        import azure.core.rest._aiohttp  # noqa: F401 - else the first request does
    if not is_for_aiohttp or _is_plain_aiohttp(transport):
        return
    if brought := _brought_by(transport):
        raise ValueError(
            f"{type(transport).__name__} cannot be kept from using {brought}, which would see the "
            "identity's secrets: give it use_env_settings=False and a session without that"
        )


def warn_of_certificate(transport: Any, level: int) -> None:
    """Warn of a transport that `check_certificate` is going to refuse.

    Args:
        transport: the caller's, if there is one.
        level: how many frames above this one the caller's is.
    """
    if transport is not None and type(transport) not in _ISOLATED_TYPES:
        warnings.warn(
            f"transport is a {type(transport).__name__}, which cannot check Service Fabric's "
            "certificate by its thumbprint: no token will be had by it",
            UserWarning,
            stacklevel=level + 1,
        )


def isolated_requests(transport: Any, request: Request, clock: Clock) -> Any:
    """The twin of one of azure-core's transports for `requests`, or None for any other."""
    if type(transport) not in _ISOLATED_TYPES or not _is_plain(transport.session):
        return None
    if transport.session is None and transport._has_been_opened:
        return None  # it has been closed, and says so itself
    isolated = copy.copy(transport)
    isolated.session = BoundedSession(clock)
    isolated.session.trust_env = request.over_internet and transport._use_env_settings
    if request.certificate:
        isolated.session.mount("https://", BoundedAdapter(clock, request.certificate))
    if transport.session is not None:
        copied = ("cert", "hooks", "proxies", "verify") if request.over_internet else _HARMLESS
        for name in copied:
            setattr(isolated.session, name, getattr(transport.session, name))
    return isolated


def check_certificate(transport: Any, request: Request) -> None:
    """Refuse a transport that has no twin where the server is known by its certificate alone.

    Raises:
        Refused: before anything secret is sent.
    """
    if request.certificate:
        raise Refused(
            f"{type(transport).__name__} cannot check Service Fabric's certificate by its "
            "thumbprint",
            "Leave transport out, or give a plain RequestsTransport.",
            reason=Reason.UNSUPPORTED,
        )


def bound_requests(transport: Any, request: Request, clock: Clock) -> None:
    """Bound what a transport sends to this very endpoint, if it has no twin but uses `requests`.

    Else its thread would be held by whoever answers there without end.
    """
    if not isinstance(transport, RequestsTransport):
        return
    transport.open()
    session = getattr(transport, "session", None)
    where = request.url.partition("?")[0]
    if not isinstance(session, requests.Session):
        return
    if type(session.get_adapter(where)) in _PLAIN_ADAPTERS:
        # The first that fits is used. A new mapping: somebody may be looking into the old one.
        session.adapters = OrderedDict({where: BoundedAdapter(clock), **session.adapters})


def isolated_aiohttp(transport: Any, request: Request) -> Any:
    """The twin of azure-core's transport for aiohttp, or None for any other. On its loop only."""
    if not _is_plain_aiohttp(transport):
        return None
    if transport.session is None and transport._has_been_opened:
        return None  # it has been closed, and says so itself
    import aiohttp

    connector = None if transport.session is None else transport.session.connector
    if transport.session is not None and connector is None:
        return None  # its session has been closed, and says so itself
    isolated = copy.copy(transport)
    isolated.session = aiohttp.ClientSession(
        connector=connector,
        connector_owner=connector is None,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=request.over_internet and transport._use_env_settings,
    )
    return isolated


def options_for(transport: Any, request: Request) -> dict[str, Any]:
    """What ``transport`` is told with ``request``, beside the request itself."""
    host = urlsplit(request.url).hostname
    proxied = ("http", "https", "all", f"http://{host}", f"https://{host}", f"all://{host}")
    options: dict[str, Any] = {"stream": True}
    if not request.over_internet:
        # requests looks these up, most special first; None hides a session's own.
        options["proxies"] = {**dict.fromkeys(proxied), "no_proxy": "*"}
    bounds = {"connection_timeout": request.connect_seconds, "read_timeout": request.seconds}
    if not isinstance(transport, RequestsTransport):
        return {**options, **bounds}
    if not isinstance(getattr(transport, "session", None), BoundedSession):
        options |= {"auth": _Bare(request), "hooks": {"response": _without_location}}
    if is_async(transport):
        # These know one time-out only, and hand it to requests as it is.
        return {**options, "connection_timeout": (request.connect_seconds, request.seconds)}
    return {**options, **bounds}


class _Bare(requests.auth.AuthBase):
    """What requests calls last of all: takes off what the session has put on."""

    def __init__(self, request: Request) -> None:
        own = {name.lower() for name in request.headers}
        self._foreign = {"authorization", "cookie"} - own

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        for name in self._foreign:
            request.headers.pop(name, None)
        return request


def _without_location(answer: requests.Response, **_: Any) -> None:
    """Requests reads the whole body of a redirect, inflated, even where it does not follow it."""
    answer.headers.pop("location", None)


def _is_plain(session: Any) -> bool:
    """Whether nothing of ``session`` is lost with it but its configuration."""
    if session is None:
        return True
    return type(session) is requests.Session and all(
        type(adapter) in _PLAIN_ADAPTERS for adapter in session.adapters.values()
    )


def _aiohttp_transport() -> Any:
    """azure-core's transport for aiohttp, if anybody has one; aiohttp need not be there."""
    return getattr(
        sys.modules.get("azure.core.pipeline.transport._aiohttp"), "AioHttpTransport", None
    )


def _is_plain_aiohttp(transport: Any) -> bool:
    known = _aiohttp_transport()
    if known is None or type(transport) is not known:
        return False
    import aiohttp

    return transport.session is None or type(transport.session) is aiohttp.ClientSession


def _brought_by(transport: Any) -> str:
    session = transport.session
    if session is None:
        return "the environment's proxies" if transport._use_env_settings else ""
    if getattr(session, "trust_env", None) is True:
        return "the environment's proxies"
    brought = {"_default_proxy": "its session's proxy", "_default_auth": "its session's password"}
    # Not getattr: a stand-in in somebody's test has every attribute.
    return next((words for name, words in brought.items() if vars(session).get(name)), "")
