"""One client of the endpoint: its request is read in pieces, answered once, and the line is cut."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import h11

from .policy import Asked
from .responses import Refusal

if TYPE_CHECKING:
    import socket

    from .responses import Answer

_LARGEST_HEAD = 12 * 1024
_PIECE = 16 * 1024
# Bytes that are read and thrown away, so that a client which still sends sees the answer.
_MOST_DISCARDED = 1024 * 1024
_REASONS = {
    200: "OK", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
    405: "Method Not Allowed", 431: "Request Header Fields Too Large", 500: "Internal Server Error",
    503: "Service Unavailable",
}  # fmt: skip


class Gone(Exception):
    """There is nobody left to answer."""


class Connection:
    """A client that has connected.

    Args:
        peer: the socket, which does not block.
        hosts: what its Host field may say.
        uid: who it is, where the socket tells.
        ends: when it is given up (``Clock.now``).
    """

    def __init__(
        self, peer: socket.socket, hosts: frozenset[str], uid: int | None, ends: float
    ) -> None:
        self.peer = peer
        self.ends = ends
        self.answered = False
        self._hosts = hosts
        self._uid = uid
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_LARGEST_HEAD)
        self._discarded = 0

    def read(self) -> Asked | None:
        """Take what has come.

        Returns:
            The request, once it is there.

        Raises:
            Refusal: if it is none that is understood.
            Gone: if the client has left.
        """
        try:
            piece = self.peer.recv(_PIECE)
        except BlockingIOError:
            return None
        except OSError:
            raise Gone from None
        if self.answered:
            self._discarded += len(piece)
            if not piece or self._discarded > _MOST_DISCARDED:
                raise Gone
            return None
        try:
            self._http.receive_data(piece)
            event = self._http.next_event()
        except h11.RemoteProtocolError as error:
            raise Refusal(error.error_status_hint, "The request is no sound HTTP.") from None
        if isinstance(event, h11.Request):
            return self._asked(event)
        if event is h11.NEED_DATA:
            return None
        raise Gone

    def answer(self, answer: Answer) -> None:
        """Send ``answer``; all that comes after it is thrown away."""
        self.answered = True
        headers = [
            ("Content-Type", "application/json; charset=utf-8"),
            ("Content-Length", str(len(answer.body))),
            ("Cache-Control", "no-store"),
            ("Connection", "close"),
            *answer.headers,
        ]
        reason = _REASONS.get(answer.status, "").encode()
        head = h11.Response(status_code=answer.status, headers=headers, reason=reason)
        parts = (head, h11.Data(data=answer.body), h11.EndOfMessage())
        with suppress(OSError, h11.LocalProtocolError):
            # A refusal fits into the socket's buffer, which is empty: this does not block.
            self.peer.sendall(b"".join(self._http.send(part) or b"" for part in parts))
        with suppress(OSError):
            self.peer.shutdown(1)

    def _asked(self, event: h11.Request) -> Asked:
        headers = [
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in event.headers
        ]
        names = [name for name, _ in headers]
        method = event.method.decode("latin-1")
        if event.http_version not in (b"1.0", b"1.1"):
            raise Refusal(400, "HTTP/1.1 is spoken here.")
        if method == "GET" and ("transfer-encoding" in names or _has_length(headers)):
            raise Refusal(400, "A GET has no body here.")
        return Asked(method, event.target.decode("latin-1"), headers, self._hosts, self._uid)


def _has_length(headers: list[tuple[str, str]]) -> bool:
    return any(name == "content-length" and value.strip() != "0" for name, value in headers)
