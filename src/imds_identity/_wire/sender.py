"""Sends by `requests`: never a proxy, never a redirect, and nothing without a bound."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import requests
import urllib3

from .._core.failure import Malformed
from .._version import __version__
from .exchange import Dropped, Request, Response, TransportError, Unreached
from .retry import CONNECT_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._core.clock import Clock
    from .channel import Sender

READ_TIMEOUT = 10.0
"""Seconds that a service may keep us waiting for an answer, and again for its body."""
LARGEST_BODY = 256 * 1024
"""Bytes. A token is two thousand."""
USER_AGENT = f"imds-identity/{__version__} requests/{requests.__version__}"

# identity: an answer of a few kilobytes that asks to be inflated is not the metadata service's.
_HEADERS = {"User-Agent": USER_AGENT, "Accept": "application/json", "Accept-Encoding": "identity"}


@contextmanager
def requests_sender(clock: Clock) -> Iterator[Sender]:
    """One session for one exchange; nothing of it is left for a fork, a proxy or a cookie."""
    with requests.Session() as session:
        session.trust_env = False
        session.headers.clear()
        session.headers.update(_HEADERS)

        def send(request: Request) -> Response:
            try:
                return _send(session, request, clock)
            except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
                raise _transport_error(error) from None

        yield send


def _send(session: requests.Session, request: Request, clock: Clock) -> Response:
    sent_at = clock.now()
    with session.request(
        request.method,
        request.url,
        headers=plain_headers(request),
        data=request.body,
        timeout=(CONNECT_TIMEOUT, READ_TIMEOUT),
        allow_redirects=False,
        stream=True,
    ) as answer:
        return Response(
            status=answer.status_code,
            headers={name.lower(): value for name, value in answer.headers.items()},
            body=_body(answer.raw, clock),
            sent_at=sent_at,
            received_at=clock.now(),
            received_wall=clock.wall(),
        )


def plain_headers(request: Request) -> dict[str, str]:
    """The header fields as they are sent; here, and nowhere else, is a secret one revealed."""
    return {
        name: value if isinstance(value, str) else value.reveal()
        for name, value in request.headers.items()
    }


def _body(raw: urllib3.BaseHTTPResponse, clock: Clock) -> bytes:
    # read1 gives what has come; read waits for all of it, however slowly it drips.
    read = getattr(raw, "read1", raw.read)
    deadline = clock.now() + READ_TIMEOUT
    chunks: list[bytes] = []
    size = 0
    while chunk := read(LARGEST_BODY, decode_content=False):
        chunks.append(chunk)
        size += len(chunk)
        if size > LARGEST_BODY:
            raise Malformed(f"the answer is larger than {LARGEST_BODY} bytes")
        if clock.now() > deadline:
            raise Dropped(f"the answer was not complete after {READ_TIMEOUT:.0f} s")
    return b"".join(chunks)


def _transport_error(error: Exception) -> TransportError:
    """The error without the objects in it: they hold the request, and it may hold a secret."""
    cause = error.args[0] if error.args else error
    reason = getattr(cause, "reason", None) or cause
    if isinstance(error, requests.ConnectTimeout):
        return Unreached(f"no connection within {CONNECT_TIMEOUT:.0f} s")
    if isinstance(reason, urllib3.exceptions.NewConnectionError):
        return Unreached(_last_words(reason))
    if isinstance(error, requests.ReadTimeout | urllib3.exceptions.ReadTimeoutError):
        return Dropped(f"no answer within {READ_TIMEOUT:.0f} s")
    return Dropped(_last_words(reason))


def _last_words(error: object) -> str:
    """The system's own words, without the address of the object that met with it."""
    return str(error).rsplit(": ", 1)[-1].strip("()'\" ") or type(error).__name__
