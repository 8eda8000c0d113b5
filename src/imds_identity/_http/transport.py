"""Sends to the services of a machine: never by a proxy, and nothing without a bound.

What goes in the clear has a connection of http.client's to itself. There is no session that could
follow a redirect, keep a cookie or read ``.netrc``, and half of the time that one takes is saved.
What needs TLS, or leaves the machine's own network, goes by `requests`.
"""

from __future__ import annotations

import functools
import http.client
from contextlib import contextmanager
from urllib.parse import urlsplit

from .._platform.fork import fork_safe
from .connection import Connection, check_encoding, read_all
from .exchange import ReadFailed, Request, Response
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
    """Sends by a new connection each time; nothing of it is left for a fork.

    A kept connection may belong to a process that gave up its port before `ConfirmListener` looked
    who listens there, and would get Arc's secret.

    Args:
        clock: times the answers.
    """

    def send(request: Request) -> Response:
        try:
            return _send(request, clock)
        except Exception as error:  # noqa: BLE001 - whatever it is, it leaves as one of ours
            problem = transport_error_from(error, request)
        # Not inside the handler: an exception's context holds frames, and those hold secrets.
        raise problem

    yield send


def parts_of(request: Request) -> SplitResult:
    """The parts of the URL that ``request`` goes to.

    Raises:
        Unavailable: unless it is one of http or https, with a host and a sound port.
    """
    url = request.url
    try:
        parts = urlsplit(url)
        sound = parts.port != 0 and parts.scheme in ("http", "https") and parts.hostname
    except ValueError:
        sound = False
    if not sound or not url.isascii() or not url.isprintable() or " " in url:
        raise invalid_url(request)
    return parts


def _send(request: Request, clock: Clock) -> Response:
    parts = parts_of(request)
    if parts.scheme == "http" and not request.over_internet:
        return _send_plain(request, parts, clock)
    with fork_safe():
        from .requests_transport import send_by_requests
    return send_by_requests(request, clock)


def _send_plain(request: Request, parts: SplitResult, clock: Clock) -> Response:
    target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    host, port = parts.hostname or "", parts.port or http.client.HTTP_PORT
    connection = Connection(host, port, clock, request.connect_seconds, request.seconds)
    sent_at = clock.now()
    try:
        try:
            connection.request(request.method, target, request.body, plain_headers(request))
        except (ValueError, http.client.InvalidURL):
            raise invalid_url(request) from None
        answer = connection.getresponse()
        return Response(
            status=answer.status,
            headers=_headers_of(answer),
            body=_body_of(answer),
            sent_at=sent_at,
            received_at=clock.now(),
            received_wall=clock.wall(),
        )
    finally:
        connection.close()


def _headers_of(answer: http.client.HTTPResponse) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in answer.headers.items():
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return headers


def _body_of(answer: http.client.HTTPResponse) -> bytes:
    """The whole body, as it came.

    Raises:
        Malformed: if it is compressed or too large.
        ReadFailed: if it is not complete in time.
    """
    check_encoding(answer.headers)
    body = read_all(iter(functools.partial(answer.read, _CHUNK), b""))
    if answer.length:
        raise ReadFailed(f"the answer broke off, {answer.length} bytes before its end")
    return body
