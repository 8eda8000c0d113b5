"""`requests` with an end to everything: time, size, and how far a request may travel."""

from __future__ import annotations

import functools
import logging
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection

from .._core.failure import Malformed, quote
from .._runtime.background import is_ours
from .connection import LARGEST_BODY, BoundedConnection, BoundedTlsConnection, too_large

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._runtime.clock import Clock


def _is_not_ours(_: logging.LogRecord) -> bool:
    """Whether a record of urllib3's may go to handlers.

    A handler that uses the credential holds its own lock while it waits for the fetch, and would
    wait for ever if the fetch had something to log for it.
    """
    return not is_ours()


logging.getLogger("urllib3.connectionpool").addFilter(_is_not_ours)


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


def body_of(answer: requests.Response) -> bytes:
    """The whole body of a streamed answer, as it came.

    Raises:
        Malformed: if it is compressed or too large.
        Dropped: if it is not complete in time.
    """
    check_encoding(answer.headers)
    chunks = iter(functools.partial(answer.raw.read, 65536, decode_content=False), b"")
    return joined(chunks)


def joined(chunks: Any) -> bytes:
    """All of ``chunks``.

    Raises:
        Malformed: if they are too much.
    """
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > LARGEST_BODY:
            raise too_large()
    return bytes(body)


def check_encoding(headers: Mapping[str, str]) -> None:
    """Refuse to inflate: a body of a kilobyte may become gigabytes.

    Raises:
        Malformed: if a body is compressed, which was not asked for.
    """
    encoding = str(headers.get("content-encoding") or "identity").strip()
    if encoding.lower() != "identity":
        raise Malformed(
            f"the answer is compressed ({quote(encoding)}), which was not asked for",
            "Something between this machine and the service changes what it says: remove it.",
        )


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


_BOUNDED: dict[Any, type[BoundedConnection]] = {
    HTTPConnection: BoundedConnection,
    HTTPSConnection: BoundedTlsConnection,
}
