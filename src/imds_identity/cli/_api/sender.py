"""Sends requests with the standard library, with limits on the time and size of a response.

Importing ``requests`` takes three times as long, and scripts call these commands often.
"""

from __future__ import annotations

import functools
import http.client
import os
import ssl
import urllib.request
from typing import TYPE_CHECKING, Any

from ..._http.connection import Deadline, bounded_response, connect, read_all
from ..._http.exchange import ReadFailed
from ..._platform.clock import SYSTEM_CLOCK
from ..._platform.environment import Environment
from ..._version import __version__

if TYPE_CHECKING:
    import socket
    from email.message import Message

    from ..._http.connection import BoundedResponse

# More than the longest responses of Resource Manager.
_MAX_BODY = 32 * 1024 * 1024
_CHUNK = 64 * 1024
# For one request and its response; a connection that transfers nothing ends earlier.
_RESPONSE_SECONDS = 120.0
_TIMEOUT_SECONDS = 60.0


class ApiRequest:
    """A request. It is not a tuple, because error trackers print the items of tuples."""

    def __init__(
        self,
        method: str,
        url: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.method = method
        self.url = url
        self.body = body
        self.headers = dict(headers or {})

    def with_url(self, url: str) -> ApiRequest:
        """Return the same request with another URL."""
        return ApiRequest(self.method, url, self.body, self.headers)


class ApiResponse:
    """A complete response. It is not a tuple: the body may be a secret."""

    def __init__(self, status: int, reason: str, headers: Message, body: bytes) -> None:
        self.status = status
        self.reason = reason
        self.headers = headers
        self.body = body


class Sender:
    """Sends requests with a token, through the environment's proxies."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        handler = _BoundedHttpsHandler(context or tls_context())
        self._opener = urllib.request.build_opener(_KeepErrorResponses(), handler)

    def __call__(self, request: ApiRequest, token: str | None) -> ApiResponse:
        """Send ``request``, whose URL has been checked, and return the response.

        Without ``token``, the request has no Authorization header.
        """
        headers = {
            "User-Agent": f"imds-identity/{__version__}",
            "Accept": "application/json",
            **request.headers,
        }
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        with self._opener.open(
            urllib.request.Request(  # noqa: S310 - `origin_url` has checked the scheme
                request.url, data=request.body, headers=headers, method=request.method
            ),
            timeout=_TIMEOUT_SECONDS,
        ) as response:
            body = read_all(iter(functools.partial(response.read, _CHUNK), b""), _MAX_BODY)
            if response.length:
                raise ReadFailed(f"the response ended {response.length} bytes early")
            return ApiResponse(response.status, response.reason, response.headers, body)


class _Connection(http.client.HTTPSConnection):
    """A connection for one request, with a deadline for its response."""

    debuglevel = 0  # for the same reason as `BoundedConnection`'s

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline = Deadline(SYSTEM_CLOCK, _RESPONSE_SECONDS)
        self._create_connection = _connect

    def response_class(self, sock: Any, **kwargs: Any) -> BoundedResponse:  # type: ignore[override]
        """Return the response that http.client reads from ``sock``."""
        return bounded_response(sock, self._deadline, _MAX_BODY, **kwargs)


class _BoundedHttpsHandler(urllib.request.HTTPSHandler):
    """Opens bounded connections."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(context=context)
        self._tls_context = context

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        """Send ``request`` over a new connection."""
        return self.do_open(_Connection, request, context=self._tls_context)


class _KeepErrorResponses(urllib.request.HTTPErrorProcessor):
    """Return responses of all statuses, instead of raising errors and following redirects."""

    def http_response(
        self,
        request: urllib.request.Request,  # noqa: ARG002 - urllib's name
        response: http.client.HTTPResponse,
    ) -> http.client.HTTPResponse:
        return response

    https_response = http_response


def _connect(address: tuple[str, int], *_: object) -> socket.socket:
    """Connect to a host, with one timeout for its name and all its addresses."""
    connection = connect(*address, _TIMEOUT_SECONDS, SYSTEM_CLOCK)
    connection.settimeout(_TIMEOUT_SECONDS)
    return connection


def tls_context(bundle: str = "") -> ssl.SSLContext:
    """Return a context that trusts ``bundle``, or else the same certificates as ``requests``."""
    bundle = bundle or Environment()["REQUESTS_CA_BUNDLE"]
    if not bundle:
        import certifi

        bundle = certifi.where()
    if os.path.isdir(bundle):
        return ssl.create_default_context(capath=bundle)
    return ssl.create_default_context(cafile=bundle)
