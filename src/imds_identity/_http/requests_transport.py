"""Sends with `requests`, with limits on time, on size, and on the hosts that receive a request."""

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
from .connection import (
    BoundedResponse,
    Deadline,
    bounded_response,
    check_encoding,
    connect,
    kind_of,
    read_all,
)
from .exchange import ConnectFailed, ErrorKind, ReadFailed
from .local_errors import local_failure
from .messages import Request, Response
from .transport_errors import invalid_url, plain_headers, system_message

if TYPE_CHECKING:
    import socket

    from .._platform.clock import Clock

_INVALID = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidHeader,
    LocationValueError,
)
# urllib3's is about a fingerprint; the ssl module's is about a handshake.
_UNTRUSTED = (ssl.SSLCertVerificationError, urllib3.exceptions.SSLError)
_PROXY_LOGIN = "Tunnel connection failed: 407"
REQUESTS_ERRORS = (requests.RequestException, urllib3.exceptions.HTTPError)
"""Exceptions that requests raises, and those of urllib3 that it passes on."""


def _is_not_internal(_: logging.LogRecord) -> bool:
    """Whether handlers may receive a record of urllib3.

    A handler that uses the credential holds its own lock while it waits for the fetch: it would
    deadlock if the fetch logged to it.
    """
    return not is_internal_thread()


logging.getLogger("urllib3.connectionpool").addFilter(_is_not_internal)


def send_by_requests(request: Request, clock: Clock) -> Response:
    """Send ``request`` in a session of its own, and return the response.

    Raise TransportError if there is no complete response; Failure for a response that cannot be
    used.
    """
    with BoundedSession(clock) as session:
        session.trust_env = request.over_internet
        if request.needs_own_tls:
            session.mount("https://", BoundedAdapter(clock, request))
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
            ) as response:
                return Response(
                    status=response.status_code,
                    headers={name.lower(): value for name, value in response.headers.items()},
                    body=_body_of(response),
                    sent_at=sent_at,
                    received_at=clock.now(),
                    received_wall=clock.wall(),
                )
        except REQUESTS_ERRORS as error:
            raise transport_error_from_requests(error, request) from None


def transport_error_from_requests(error: Exception, request: Request) -> Exception:
    """Return the TransportError or Failure for ``error``, one of `REQUESTS_ERRORS`."""
    if failure := local_failure(error):
        return failure
    reason = _innermost(error)
    if isinstance(error, _INVALID):
        return invalid_url(request)
    if isinstance(reason, _UNTRUSTED):
        hint = "name it in REQUESTS_CA_BUNDLE."
        if request.needs_own_tls:
            hint = "correct the variables that identify the server."
        return Unavailable(
            f"TLS certificate verification failed: {system_message(reason, request)}",
            f"Another program may listen there. If its certificate is to be trusted, {hint}",
            reason=Reason.TLS,
        )
    if isinstance(error, requests.ConnectTimeout):
        text = f"no connection within {request.connect_seconds:g} s"
        return ConnectFailed(text, ErrorKind.TIMEOUT)
    if isinstance(reason, NewConnectionError):
        return ConnectFailed(system_message(reason, request), _kind_of(error, reason))
    if isinstance(error, requests.ReadTimeout | urllib3.exceptions.ReadTimeoutError):
        return ReadFailed(f"no response within {request.seconds:g} s", ErrorKind.TIMEOUT)
    return ReadFailed(system_message(reason, request), _kind_of(error, reason))


def _kind_of(error: Exception, reason: Exception) -> ErrorKind:
    if not isinstance(error, requests.exceptions.ProxyError):
        return kind_of(reason)
    needs_login = _PROXY_LOGIN in str(reason)  # http.client has no class for it
    return ErrorKind.PROXY_AUTHENTICATION if needs_login else ErrorKind.PROXY


def _innermost(error: Exception) -> Exception:
    """Return the original exception that urllib3 and requests have wrapped."""
    inner = getattr(error, "reason", None) or (error.args[-1] if error.args else None)
    if not isinstance(inner, Exception):
        return error
    return inner if isinstance(inner, NewConnectionError) else _innermost(inner)


class BoundedSession(requests.Session):
    """A session that follows no redirect, keeps no cookie, and reads no ``.netrc``.

    The second number of a timeout ``(connect, total)`` limits the whole request. The environment's
    proxies and certificates are used only if ``trust_env`` is set.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.trust_env = False
        # With any auth, requests does not read .netrc.
        self.auth = lambda request: request
        self.headers.clear()
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        adapter = BoundedAdapter(clock)
        for scheme in ("http://", "https://"):
            self.mount(scheme, adapter)

    def get_redirect_target(self, resp: requests.Response) -> None:  # noqa: ARG002
        """Return None: a redirect is a response like any other, and this module reads its body."""
        return


def _body_of(response: requests.Response) -> bytes:
    """Return the whole body of a streamed response.

    Raise Malformed if it is compressed or too large; ReadFailed if it is not complete in time.
    """
    check_encoding(response.headers)
    chunks = iter(functools.partial(response.raw.read, 65536, decode_content=False), b"")
    return read_all(chunks)


class BoundedAdapter(HTTPAdapter):
    """An adapter that respects ``total`` of a timeout ``(connect, total)``.

    Args:
        clock: measures the time.
        request: a request whose server needs its own TLS settings, or None.
    """

    def __init__(self, clock: Clock, request: Request | None = None) -> None:
        self._clock = clock
        self._certificate = request.certificate if request else ""
        self._server_tls = request.server_tls if request else None
        super().__init__()

    def init_poolmanager(
        self, connections: int, maxsize: int, block: bool = False, **kwargs: object
    ) -> None:
        """Create the pools as `HTTPAdapter` does, with the TLS options of this adapter."""
        super().init_poolmanager(connections, maxsize, block, **kwargs, **self._tls_options())

    def proxy_manager_for(self, proxy: str, **kwargs: object) -> Any:
        """Return the pools for a proxy as `HTTPAdapter` does, with the same TLS options."""
        return super().proxy_manager_for(proxy, **kwargs, **self._tls_options())

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> Any:
        """Send ``request`` as `HTTPAdapter.send` does."""
        timeout = kwargs.get("timeout")
        if isinstance(timeout, tuple):
            connect_seconds, total = timeout
            kwargs["timeout"] = urllib3.Timeout(connect=min(connect_seconds, total), total=total)
        if self._certificate:
            kwargs["verify"] = False  # urllib3 compares the fingerprint instead
        return super().send(request, *args, **kwargs)

    def build_connection_pool_key_attributes(self, *args: Any, **kwargs: Any) -> Any:
        """Return the host and the TLS attributes of a connection; `requests` calls this."""
        attributes: Any = super().build_connection_pool_key_attributes(*args, **kwargs)
        host, tls = attributes
        if self._server_tls and self._server_tls.context:
            # Without the authorities of the caller and the environment.
            tls = {"ssl_context": self._server_tls.context}
        if self._server_tls and self._server_tls.name:
            tls["server_hostname"] = self._server_tls.name
        return host, tls

    def cert_verify(self, *args: Any) -> None:
        """Apply the caller's and the system's authorities, unless only one is trusted."""
        if not (self._server_tls and self._server_tls.context):
            super().cert_verify(*args)  # type: ignore[no-untyped-call]

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        """Return the pool of bounded connections for a request."""
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        # A pool that other code has replaced, such as a test's recorder, stays as it is.
        if bounded := _BOUNDED.get(pool.ConnectionCls):
            pool.ConnectionCls = functools.partial(bounded, clock=self._clock)
        if self._certificate:
            pool.assert_fingerprint = self._certificate
        return pool

    def _tls_options(self) -> dict[str, object]:
        """Return a context of the current class, if urllib3 has imported another one.

        After gevent or eventlet has replaced the class, the original one recurses without end.
        """
        if urllib3.util.SSLContext is ssl.SSLContext:
            return {}
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = not self._certificate
        return {"ssl_context": context}


class BoundedUrllib3Connection(HTTPConnection):
    """A connection with limits like those of `connection.BoundedConnection`."""

    debuglevel = 0  # for the same reason

    def __init__(self, *args: Any, clock: Clock, **kwargs: Any) -> None:
        self._clock = clock
        super().__init__(*args, **kwargs)

    def _new_conn(self) -> socket.socket:
        seconds = float(self.timeout or 0)
        sys.audit("http.client.connect", self, self.host, self.port)
        port = self.port or self.default_port
        connection = connect(self._dns_host, port, seconds, self._clock)
        connection.settimeout(seconds)
        return connection

    def response_class(self, sock: Any, **kwargs: Any) -> BoundedResponse:  # type: ignore[override]
        """Return the response that http.client reads from ``sock``."""
        return bounded_response(sock, Deadline(self._clock, float(self.timeout or 0)), **kwargs)


class BoundedUrllib3TlsConnection(BoundedUrllib3Connection, HTTPSConnection):
    """The same with TLS."""


_BOUNDED: dict[object, type[BoundedUrllib3Connection]] = {
    HTTPConnection: BoundedUrllib3Connection,
    HTTPSConnection: BoundedUrllib3TlsConnection,
}
