"""Sends requests to a machine's services without proxies, and with limits on time and size.

Plain HTTP uses http.client and one connection per request: it follows no redirects, keeps no
cookies, does not read ``.netrc``, and takes half the time of `requests`. TLS and requests that
leave the machine's network use `requests`.
"""

from __future__ import annotations

import functools
import http.client
from contextlib import contextmanager
from urllib.parse import urlsplit

from .connection import BoundedConnection, check_encoding, read_all
from .exchange import ErrorKind, ReadFailed
from .messages import Request, Response
from .transport_errors import invalid_url, plain_headers, transport_error_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from urllib.parse import SplitResult

    from .._platform.clock import Clock
    from .runner import Sender

_CHUNK = 64 * 1024


@contextmanager
def direct_sender(clock: Clock) -> Iterator[Sender]:
    """Send each request over a new connection, so that a forked process inherits none.

    A reused connection may also belong to a process that left its port to the Azure Arc agent, and
    would receive Arc's secret.
    """

    def send(request: Request) -> Response:
        try:
            return _send(request, clock)
        except Exception as error:  # noqa: BLE001 - each becomes a TransportError
            converted = transport_error_from(error, request)
        # Not inside the handler: an exception's context holds frames, and those hold secrets.
        raise converted

    yield send


def uses_requests(url: str, *, over_internet: bool) -> bool:
    """Whether `requests` sends to ``url``."""
    return over_internet or not url.lower().startswith("http:")


def parts_of(request: Request) -> SplitResult:
    """Return the parts of the request's URL.

    Raise Unavailable unless it is an http or https URL with a host and a valid port.
    """
    url = request.url
    try:
        parts = urlsplit(url)
        is_valid = parts.port != 0 and parts.scheme in ("http", "https") and parts.hostname
    except ValueError:
        is_valid = False
    if not is_valid or not url.isascii() or not url.isprintable() or " " in url:
        raise invalid_url(request)
    return parts


def _send(request: Request, clock: Clock) -> Response:
    parts = parts_of(request)
    if not uses_requests(request.url, over_internet=request.over_internet):
        return _send_plain(request, parts, clock)
    # Not at the top: `requests` is heavy, and most hosts do not need it. A source that needs it
    # imports it in `preload`.
    from .requests_transport import send_by_requests

    return send_by_requests(request, clock)


def _send_plain(request: Request, parts: SplitResult, clock: Clock) -> Response:
    target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    if request.proxy:
        parts, target = urlsplit(request.proxy), request.url
    host, port = parts.hostname or "", parts.port or http.client.HTTP_PORT
    timeouts = request.connect_seconds, request.seconds
    connection = BoundedConnection(host, port, clock, *timeouts, request.max_body)
    sent_at = clock.now()
    try:
        try:
            connection.request(request.method, target, request.body, plain_headers(request))
        except ValueError:  # a header that is not valid
            raise invalid_url(request) from None
        response = connection.getresponse()
        return Response(
            status=response.status,
            headers=_headers_of(response),
            body=_body_of(response, request.max_body),
            sent_at=sent_at,
            received_at=clock.now(),
            received_wall=clock.wall(),
        )
    finally:
        connection.close()


def _headers_of(response: http.client.HTTPResponse) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in response.headers.items():
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return headers


def _body_of(response: http.client.HTTPResponse, max_body: int) -> bytes:
    """Return the whole body.

    Raise Malformed if it is compressed or too large; ReadFailed if it is not complete in time.
    """
    check_encoding(response.headers)
    body = read_all(iter(functools.partial(response.read, _CHUNK), b""), max_body)
    if response.length:
        text = f"the response ended {response.length} bytes early"
        raise ReadFailed(text, ErrorKind.INCOMPLETE)
    return body
