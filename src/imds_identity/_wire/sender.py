"""Sends by `requests`: never a proxy, never a redirect, and nothing without a bound.

All that sending needs is imported with this module: a thread that imports something while another
one forks leaves the child a lock that nobody releases.
"""

from __future__ import annotations

import errno
import socket
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING

import requests
import urllib3
from urllib3.exceptions import LocationValueError, NewConnectionError
from urllib3.util import parse_url

from .._core.failure import Failure, Refused, Unavailable, quote
from .._core.secret import Secret
from .._version import __version__
from .bounded import BoundedAdapter, BoundedSession, body_of
from .connection import late_after
from .exchange import Dropped, Request, Response, TransportError, Unreached

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._runtime.clock import Clock
    from .channel import Sender

USER_AGENT = f"imds-identity/{__version__} requests/{requests.__version__}"

# identity means uncompressed: the metadata service has no reason to compress a few kilobytes.
_HEADERS = {"User-Agent": USER_AGENT, "Accept": "application/json", "Accept-Encoding": "identity"}
_WRONG = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidHeader,
    LocationValueError,
)
# urllib3's own is about a certificate by its fingerprint; what fails in a handshake is ssl's.
_UNTRUSTED = (ssl.SSLCertVerificationError, urllib3.exceptions.SSLError)
_NO_WAY = {errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN}


@contextmanager
def requests_sender(clock: Clock) -> Iterator[Sender]:
    """One session for one exchange; nothing of it is left for a fork, a proxy or a cookie."""
    with BoundedSession(clock) as session:

        def send(request: Request) -> Response:
            try:
                return _send(session, request, clock)
            except Exception as error:  # noqa: BLE001 - whatever it is, it leaves as one of ours
                problem = problem_of(error, request)
            # Not inside the handler: an exception's context holds frames, and those hold secrets.
            raise problem

        yield send


def _send(session: requests.Session, request: Request, clock: Clock) -> Response:
    check_url(request)
    # Each request has a new connection. A kept one may belong to a process that gave up its port
    # before `ConfirmListener` looked who listens there, and would get Arc's secret.
    session.close()
    session.trust_env = request.over_internet
    if request.certificate:
        session.mount("https://", BoundedAdapter(clock, request.certificate))
    sent_at = clock.now()
    with session.request(
        request.method,
        request.url,
        headers=plain_headers(request),
        data=request.body,
        timeout=(request.connect_seconds, request.seconds),
        allow_redirects=False,
        stream=True,
    ) as answer:
        return Response(
            status=answer.status_code,
            headers={name.lower(): value for name, value in answer.headers.items()},
            body=body_of(answer),
            sent_at=sent_at,
            received_at=clock.now(),
            received_wall=clock.wall(),
        )


def plain_headers(request: Request) -> dict[str, str]:
    """The header fields as they are sent; here, and nowhere else, is a secret one revealed."""
    plain = {
        name: value.reveal() if isinstance(value, Secret) else value
        for name, value in request.headers.items()
    }
    return {**_HEADERS, **plain}


def check_url(request: Request) -> None:
    """Refuse what no number of retries would reach.

    Raises:
        Unavailable: unless the URL is one of http or https, with a host and a sound port.
    """
    try:
        parts = parse_url(request.url if request.url.isascii() else "")
    except LocationValueError:
        raise _wrong_url(request) from None
    if parts.scheme not in ("http", "https") or not parts.host or parts.port == 0:
        raise _wrong_url(request)


def problem_of(error: Exception, request: Request) -> Exception:
    """``error`` as the engine knows it, without the objects in it: they hold the request.

    Args:
        error: what came of sending.
        request: what was sent; no secret of its headers gets into the words.
    """
    if isinstance(error, TransportError | Failure):
        # What was raised deep inside must not carry the frames that it came through.
        error.__cause__ = error.__context__ = None
        return error.with_traceback(None)
    if isinstance(error, requests.RequestException | urllib3.exceptions.HTTPError):
        return _problem_of_requests(error, request)
    if isinstance(error, OSError):
        return _problem_of_system(error, request)
    words = scrubbed(str(error), request)
    return Refused(
        f"the transport or one of its hooks raised {type(error).__name__}: {words}",
        "Such an error is not one of the service's: correct what sends, or leave it out.",
    )


def last_words(error: object, request: Request) -> str:
    """The system's own words, without the address of the object that met with it."""
    words = str(error).rsplit(": ", 1)[-1].strip("()'\" ")
    return scrubbed(words, request) or type(error).__name__


def scrubbed(text: str, request: Request) -> str:
    """``text`` fit for a message, without what ``request`` carries that is secret."""
    for name, value in request.headers.items():
        if isinstance(value, Secret):
            text = value.scrubbed(text)
        elif name.lower() == "authorization":
            text = Secret(value).scrubbed(text)
    return quote(text)


def _problem_of_requests(error: Exception, request: Request) -> Exception:
    reason = _innermost(error)
    if isinstance(error, _WRONG):
        return _wrong_url(request)
    if isinstance(reason, _UNTRUSTED):
        return Unavailable(
            f"the certificate of who answers is not trusted: {last_words(reason, request)}",
            "Something else may answer there; else name its authority in REQUESTS_CA_BUNDLE.",
        )
    if isinstance(error, requests.ConnectTimeout):
        return Unreached(f"no connection within {request.connect_seconds:g} s")
    if isinstance(reason, NewConnectionError):
        return Unreached(last_words(reason, request))
    if isinstance(error, requests.ReadTimeout | urllib3.exceptions.ReadTimeoutError):
        return Dropped(f"no answer within {request.seconds:g} s")
    return Dropped(last_words(reason, request))


def _innermost(error: Exception) -> Exception:
    """What urllib3 and requests have wrapped, each in its own way."""
    inner = getattr(error, "reason", None) or (error.args[-1] if error.args else None)
    if not isinstance(inner, Exception):
        return error
    return inner if isinstance(inner, NewConnectionError) else _innermost(inner)


def _problem_of_system(error: OSError, request: Request) -> TransportError:
    words = scrubbed(error.strerror or str(error), request)
    if isinstance(error, TimeoutError) and not words:
        return late_after(request.seconds)
    if error.errno in _NO_WAY or isinstance(error, socket.gaierror):
        return Unreached(words or type(error).__name__)
    return Dropped(words or type(error).__name__)


def _wrong_url(request: Request) -> Unavailable:
    where = quote(request.url.partition("?")[0].rpartition("@")[2])
    return Unavailable(
        f"the endpoint {where} cannot be asked: it is no URL of http or https, or a header of the "
        "request is none",
        "Correct the variable that names it; a port is a number from 1 to 65535, and a name with "
        "letters beyond ASCII is written in its xn-- form.",
    )
