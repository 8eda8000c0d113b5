"""Isolated copies of the caller's transports, which add nothing of their own to a request.

A transport may use proxies, cookies, passwords or redirects, which the metadata service must not
receive, or which must not receive its secret. So a copy sends the request: with the transport's
configuration (TLS, sizes, hooks, aiohttp's connector) and a session of this package. Transports of
other types send by themselves, with options to the same effect as far as they support them.
"""

from __future__ import annotations

import copy
import sys
import warnings
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, TypeAlias
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

AnyTransport: TypeAlias = Any
"""A transport of azure-core, sync or async, or a test double with the same methods."""
_ISOLATED_TYPES = (RequestsTransport, AsyncioRequestsTransport)
_HARMLESS = ("cert", "hooks")
_PLAIN_ADAPTERS = (HTTPAdapter, BiggerBlockSizeHTTPAdapter)


def is_async(transport: AnyTransport) -> bool:
    """Return whether ``transport`` is async; some inherit from both base classes."""
    return isinstance(transport, AsyncHttpTransport) or not isinstance(transport, HttpTransport)


def check_transport(transport: AnyTransport) -> None:
    """Refuse a transport that would use proxies, or that needs trio; import what it needs.

    Raise TypeError for trio's transport; ValueError for a transport that uses the environment's
    proxies with no option to stop it.
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
    if extra := _proxy_or_password_of(transport):
        raise ValueError(
            f"{type(transport).__name__} would use {extra}, which would see the identity's "
            "secrets: pass use_env_settings=False and a session without that"
        )


def warn_of_certificate(transport: AnyTransport, level: int) -> None:
    """Warn about a transport that `check_certificate` will refuse."""
    if transport is not None and type(transport) not in _ISOLATED_TYPES:
        warnings.warn(
            f"transport is a {type(transport).__name__}, which cannot check Service Fabric's "
            "certificate by its thumbprint: it cannot fetch a token",
            UserWarning,
            stacklevel=level + 1,
        )


def isolated_requests(transport: AnyTransport, request: Request, clock: Clock) -> AnyTransport:
    """Return an isolated copy of an azure-core `requests` transport, or None for other types."""
    if type(transport) not in _ISOLATED_TYPES or not _is_plain(transport.session):
        return None
    if transport.session is None and transport._has_been_opened:
        return None  # it was closed, and raises that error itself
    isolated = copy.copy(transport)
    isolated.session = BoundedSession(clock)
    isolated.session.trust_env = request.over_internet and transport._use_env_settings
    if request.needs_own_tls:
        isolated.session.mount("https://", BoundedAdapter(clock, request))
    if transport.session is not None:
        copied = ("cert", "hooks", "proxies", "verify") if request.over_internet else _HARMLESS
        for name in copied:
            setattr(isolated.session, name, getattr(transport.session, name))
    return isolated


def check_certificate(transport: AnyTransport, request: Request) -> None:
    """Refuse a transport that cannot verify the server as the host requires.

    Raise Refused before the secret is sent.
    """
    if request.needs_own_tls:
        certificate = "Service Fabric's certificate by its thumbprint"
        if request.server_tls:
            certificate = "the certificate of AZURE_KUBERNETES_TOKEN_PROXY"
        raise Refused(
            f"{type(transport).__name__} cannot check {certificate}",
            "Omit transport, or pass a plain RequestsTransport.",
            reason=Reason.UNSUPPORTED,
        )


def bound_requests(transport: AnyTransport, request: Request, clock: Clock) -> None:
    """Limit time and size of this endpoint's responses for a transport without an isolated copy."""
    if not isinstance(transport, RequestsTransport):
        return
    transport.open()
    session = getattr(transport, "session", None)
    where = request.url.partition("?")[0]
    if not isinstance(session, requests.Session):
        return
    if type(session.get_adapter(where)) in _PLAIN_ADAPTERS:
        # requests uses the first prefix that matches. Replace the mapping instead of changing it,
        # because another thread may be iterating over it.
        session.adapters = OrderedDict({where: BoundedAdapter(clock), **session.adapters})


def isolated_aiohttp(transport: AnyTransport, request: Request) -> AnyTransport:
    """Return an isolated copy of azure-core's aiohttp transport, or None. Call it on the loop."""
    if not _is_plain_aiohttp(transport):
        return None
    if transport.session is None and transport._has_been_opened:
        return None  # it was closed, and raises that error itself
    import aiohttp

    connector = None if transport.session is None else transport.session.connector
    if transport.session is not None and connector is None:
        return None  # its session was closed, and raises that error itself
    isolated = copy.copy(transport)
    isolated.session = aiohttp.ClientSession(
        connector=connector,
        connector_owner=connector is None,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=request.over_internet and transport._use_env_settings,
    )
    return isolated


def options_for(transport: AnyTransport, request: Request) -> dict[str, object]:
    """Return the options for ``transport`` to send ``request`` with."""
    host = urlsplit(request.url).hostname
    proxied = ("http", "https", "all", f"http://{host}", f"https://{host}", f"all://{host}")
    options: dict[str, object] = {"stream": True}
    if not request.over_internet:
        # requests looks these up, the most specific first; None hides those of the session.
        options["proxies"] = {**dict.fromkeys(proxied), "no_proxy": "*"}
    bounds = {"connection_timeout": request.connect_seconds, "read_timeout": request.seconds}
    if not isinstance(transport, RequestsTransport):
        return {**options, **bounds}
    if not isinstance(getattr(transport, "session", None), BoundedSession):
        options |= {"auth": _OwnHeadersOnly(request), "hooks": {"response": _remove_location}}
    if is_async(transport):
        # These have one timeout only, and pass it on to requests.
        return {**options, "connection_timeout": (request.connect_seconds, request.seconds)}
    return {**options, **bounds}


class _OwnHeadersOnly(requests.auth.AuthBase):
    """Removes the credentials and cookies that a `requests` session adds to a request."""

    def __init__(self, request: Request) -> None:
        own = {name.lower() for name in request.headers}
        self._foreign = {"authorization", "cookie"} - own

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        for name in self._foreign:
            request.headers.pop(name, None)
        return request


def _remove_location(response: requests.Response, **_: object) -> None:
    """Remove the Location header: otherwise `requests` reads and decodes the body."""
    response.headers.pop("location", None)


def _is_plain(session: object) -> bool:
    """Return whether ``session`` and its adapters have standard classes: it can be copied."""
    if session is None:
        return True
    return type(session) is requests.Session and all(
        type(adapter) in _PLAIN_ADAPTERS for adapter in session.adapters.values()
    )


def _aiohttp_transport() -> AnyTransport:
    """Return azure-core's aiohttp transport class if it was imported; aiohttp may be missing."""
    return getattr(
        sys.modules.get("azure.core.pipeline.transport._aiohttp"), "AioHttpTransport", None
    )


def _is_plain_aiohttp(transport: AnyTransport) -> bool:
    known = _aiohttp_transport()
    if known is None or type(transport) is not known:
        return False
    import aiohttp

    return transport.session is None or type(transport.session) is aiohttp.ClientSession


def _proxy_or_password_of(transport: AnyTransport) -> str:
    session = transport.session
    if session is None:
        return "the environment's proxies" if transport._use_env_settings else ""
    if getattr(session, "trust_env", None) is True:
        return "the environment's proxies"
    attributes = {
        "_default_proxy": "its session's proxy",
        "_default_auth": "its session's password",
    }
    # Not getattr: a mock has every attribute.
    return next((words for name, words in attributes.items() if vars(session).get(name)), "")
