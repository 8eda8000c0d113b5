"""`requests` with an end to everything: time, size, and how far a request may travel."""

from __future__ import annotations

import functools
import logging
import ssl
import sys
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import LocationValueError, NewConnectionError

from .._core.failure import Reason, Unavailable
from .._platform.threads import is_internal_thread
from .connection import Answer, Deadline, bounded_answer, check_encoding, connect_within, read_all
from .exchange import ConnectFailed, ReadFailed, Response
from .transport_errors import invalid_url, plain_headers, system_message

if TYPE_CHECKING:
    import socket

    from .._platform.clock import Clock
    from .exchange import Request

_WRONG = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidHeader,
    LocationValueError,
)
# urllib3's own is about a certificate by its fingerprint; what fails in a handshake is ssl's.
_UNTRUSTED = (ssl.SSLCertVerificationError, urllib3.exceptions.SSLError)
REQUESTS_ERRORS = (requests.RequestException, urllib3.exceptions.HTTPError)
"""What requests raises, and what it lets through."""


def _is_not_ours(_: logging.LogRecord) -> bool:
    """Whether a record of urllib3's may go to handlers.

    A handler that uses the credential holds its own lock while it waits for the fetch, and would
    wait for ever if the fetch had something to log for it.
    """
    return not is_internal_thread()


logging.getLogger("urllib3.connectionpool").addFilter(_is_not_ours)


def send_by_requests(request: Request, clock: Clock) -> Response:
    """Send ``request`` by a session of its own, which is left to no fork, proxy or cookie.

    Raises:
        TransportError: if there is no answer.
        Failure: for one that cannot be used.
    """
    with BoundedSession(clock) as session:
        session.trust_env = request.over_internet
        if request.certificate:
            session.mount("https://", BoundedAdapter(clock, request.certificate))
        sent_at = clock.now()
        try:
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
                    body=_body_of(answer),
                    sent_at=sent_at,
                    received_at=clock.now(),
                    received_wall=clock.wall(),
                )
        except REQUESTS_ERRORS as error:
            raise transport_error_from_requests(error, request) from None


def transport_error_from_requests(error: Exception, request: Request) -> Exception:
    """What ``error``, one of `REQUESTS_ERRORS`, is to the engine.

    Args:
        error: what came of sending.
        request: what was sent; no secret of its headers gets into the words.
    """
    reason = _innermost(error)
    if isinstance(error, _WRONG):
        return invalid_url(request)
    if isinstance(reason, _UNTRUSTED):
        return Unavailable(
            f"the certificate of who answers is not trusted: {system_message(reason, request)}",
            "Something else may answer there; else name its authority in REQUESTS_CA_BUNDLE.",
            reason=Reason.TLS,
        )
    if isinstance(error, requests.ConnectTimeout):
        return ConnectFailed(f"no connection within {request.connect_seconds:g} s")
    if isinstance(reason, NewConnectionError):
        return ConnectFailed(system_message(reason, request))
    if isinstance(error, requests.ReadTimeout | urllib3.exceptions.ReadTimeoutError):
        return ReadFailed(f"no answer within {request.seconds:g} s")
    return ReadFailed(system_message(reason, request))


def _innermost(error: Exception) -> Exception:
    """What urllib3 and requests have wrapped, each in its own way."""
    inner = getattr(error, "reason", None) or (error.args[-1] if error.args else None)
    if not isinstance(inner, Exception):
        return error
    return inner if isinstance(inner, NewConnectionError) else _innermost(inner)


class BoundedSession(requests.Session):
    """Sends what it is given to whom it is meant for, and to nobody else.

    Follows no redirect, keeps no cookie and reads no ``.netrc``. Of a time-out ``(connect, whole)``
    the second number bounds the whole request. The environment's proxies and certificates are used
    only while ``trust_env`` says so.

    Args:
        clock: times the answers.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.trust_env = False
        # With any auth at all, requests does not look into .netrc.
        self.auth = _as_it_is
        self.headers.clear()
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        adapter = BoundedAdapter(clock)
        for scheme in ("http://", "https://"):
            self.mount(scheme, adapter)

    def get_redirect_target(self, resp: requests.Response) -> None:  # noqa: ARG002
        """None: a redirect is an answer like any other, and its body is read by us alone."""
        return


def _body_of(answer: requests.Response) -> bytes:
    """The whole body of a streamed answer, as it came.

    Raises:
        Malformed: if it is compressed or too large.
        ReadFailed: if it is not complete in time.
    """
    check_encoding(answer.headers)
    chunks = iter(functools.partial(answer.raw.read, 65536, decode_content=False), b"")
    return read_all(chunks)


class BoundedAdapter(HTTPAdapter):
    """Sends for a session; ``whole`` of its time-out ``(connect, whole)`` is kept.

    Args:
        clock: times the answers.
        certificate: the fingerprint of the only one that a server may have, in place of those
            that the system trusts.
    """

    def __init__(self, clock: Clock, certificate: str = "") -> None:
        self._clock = clock
        self._certificate = certificate
        super().__init__()

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> Any:
        """Send ``request``, as `HTTPAdapter.send` does."""
        timeout = kwargs.get("timeout")
        if isinstance(timeout, tuple) and None not in timeout:
            connect, whole = timeout
            kwargs["timeout"] = urllib3.Timeout(connect=min(connect, whole), total=whole)
        if self._certificate:
            kwargs["verify"] = False  # by no authority: its fingerprint is looked at instead
        return super().send(request, *args, **kwargs)

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        """The pool of connections for a request, ours."""
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        # A pool that somebody else has changed, such as a test's recorder, stays as it is.
        if bounded := _BOUNDED.get(pool.ConnectionCls):
            pool.ConnectionCls = functools.partial(bounded, clock=self._clock)
        if self._certificate:
            pool.assert_fingerprint = self._certificate
        return pool


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


class BoundedConnection(HTTPConnection):
    """Connects within its time-out, however many addresses a name has, and bounds each answer."""

    debuglevel = 0  # as for `Connection`

    def __init__(self, *args: Any, clock: Clock, **kwargs: Any) -> None:
        self._clock = clock
        super().__init__(*args, **kwargs)

    def _new_conn(self) -> socket.socket:
        seconds = float(self.timeout or 0)
        sys.audit("http.client.connect", self, self.host, self.port)
        port = self.port or self.default_port
        connection = connect_within(self._dns_host, port, seconds, self._clock)
        connection.settimeout(seconds)
        return connection

    def response_class(self, sock: Any, **kwargs: Any) -> Answer:  # type: ignore[override]
        """How http.client reads an answer from ``sock``."""
        return bounded_answer(sock, Deadline(self._clock, float(self.timeout or 0)), **kwargs)


class BoundedTlsConnection(BoundedConnection, HTTPSConnection):
    pass


_BOUNDED: dict[Any, type[BoundedConnection]] = {
    HTTPConnection: BoundedConnection,
    HTTPSConnection: BoundedTlsConnection,
}
