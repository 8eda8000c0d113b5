"""A client's connection: one request, one response, then it is closed."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import h11

from .policy import HttpRequest
from .responses import Refusal

if TYPE_CHECKING:
    import socket

    from .responses import HttpResponse

_MAX_HEAD_BYTES = 12 * 1024
_RECEIVE_BYTES = 16 * 1024
# Read and discarded, so that a client that is still sending receives the response.
_MAX_DISCARDED_BYTES = 1024 * 1024
_REASONS = {
    200: "OK", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
    405: "Method Not Allowed", 431: "Request Header Fields Too Large", 500: "Internal Server Error",
    503: "Service Unavailable",
}  # fmt: skip


class ClientDisconnected(Exception):
    """The client has closed the connection or sends more data than allowed."""


class ClientConnection:
    """A connection to a client, over the non-blocking socket ``peer``.

    Its Host field must be one of ``hosts``. The server closes it at ``deadline`` (``Clock.now``).
    """

    def __init__(
        self, peer: socket.socket, hosts: frozenset[str], uid: int | None, deadline: float
    ) -> None:
        self.peer = peer
        self.deadline = deadline
        self._responded = False
        self._hosts = hosts
        self._uid = uid
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD_BYTES)
        self._received = 0
        self._discarded = 0

    def receive(self) -> HttpRequest | None:
        """Receive data; return the request as soon as its head is complete."""
        try:
            data = self.peer.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            raise ClientDisconnected from None
        if self._responded:
            self._discarded += len(data)
            if not data or self._discarded > _MAX_DISCARDED_BYTES:
                raise ClientDisconnected
            return None
        self._received += len(data)
        try:
            self._http.receive_data(data)
            event = self._http.next_event()
        except h11.RemoteProtocolError as error:
            raise Refusal(error.error_status_hint, "The request is not valid HTTP.") from None
        if isinstance(event, h11.Request):
            return self._request(event)
        if event is h11.NEED_DATA:
            return None
        raise ClientDisconnected

    def respond(self, response: HttpResponse) -> None:
        """Send ``response``. Close the connection afterward, or call `discard`."""
        self._responded = True
        headers = [
            ("Content-Type", "application/json; charset=utf-8"),
            ("Content-Length", str(len(response.body))),
            ("Cache-Control", "no-store"),
            ("Connection", "close"),
            *response.headers,
        ]
        reason = _REASONS.get(response.status, "").encode()
        head = h11.Response(status_code=response.status, headers=headers, reason=reason)
        parts = (head, h11.Data(data=response.body), h11.EndOfMessage())
        with suppress(OSError, h11.LocalProtocolError):
            # This does not block: a refusal fits into the socket's empty buffer.
            self.peer.sendall(b"".join(self._http.send(part) or b"" for part in parts))

    def discard(self) -> None:
        """Discard the data that the client sends after the response, which is complete."""
        with suppress(OSError):
            self.peer.shutdown(1)

    def _request(self, event: h11.Request) -> HttpRequest:
        # h11 does not limit a head that arrives at once.
        if self._received - len(self._http.trailing_data[0]) > _MAX_HEAD_BYTES:
            raise Refusal(431, "The header fields are larger than 12 KiB.")
        headers = [
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in event.headers
        ]
        names = [name for name, _ in headers]
        method = event.method.decode("latin-1")
        if event.http_version not in (b"1.0", b"1.1"):
            raise Refusal(400, "Only HTTP/1.1 is supported.")
        if method == "GET" and ("transfer-encoding" in names or _has_length(headers)):
            raise Refusal(400, "A GET request must not have a body.")
        return HttpRequest(method, event.target.decode("latin-1"), headers, self._hosts, self._uid)


def _has_length(headers: list[tuple[str, str]]) -> bool:
    return any(name == "content-length" and value.strip() != "0" for name, value in headers)
