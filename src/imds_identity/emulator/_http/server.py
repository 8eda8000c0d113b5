"""An HTTP/1.1 server on asyncio: h11 reads and writes, this module moves the bytes.

A connection serves one request at a time and reads no further while a client does not take its
answers, so that neither a flood of pipelined requests nor a client that never reads costs memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from email.utils import formatdate
from typing import TYPE_CHECKING, cast

import h11

from .._messages import BadTargetError, Request, Response, json_response

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from .._clock import Clock

_LOG = logging.getLogger(__name__)
_LARGEST_HEAD = 16 * 1024
_LARGEST_BODY = 256 * 1024
_MOST_CONNECTIONS = 400
_IDLE_SECONDS = 120.0
_TRICKLES = 10
_HANDSHAKE_SECONDS = 10.0
_BODILESS = frozenset({204, 304})
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class HttpServer:
    """Serves one handler on one listening socket.

    Args:
        handler: Answers a request; called on the loop, so it must not block.
        clock: Gives the Date header its time.
        name: The Server header.
        idle_seconds: A connection on which nothing happens for so long is closed.
        most_connections: Where there would be more, the idlest one is closed.
    """

    def __init__(
        self,
        handler: Callable[[Request], Response],
        clock: Clock,
        *,
        name: str,
        idle_seconds: float = _IDLE_SECONDS,
        most_connections: int = _MOST_CONNECTIONS,
    ) -> None:
        self.handler = handler
        self.idle_seconds = idle_seconds
        self.connections: set[_Connection] = set()
        self._clock = clock
        self._name = name.encode()
        self._most_connections = most_connections
        self._server: asyncio.Server | None = None
        self._date = (0, b"")

    async def start(self, listener: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        """Begins to accept connections on a bound socket, which it then owns."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Connection(self, loop, secure=tls is not None),
            sock=listener,
            ssl=tls,
            ssl_handshake_timeout=_HANDSHAKE_SECONDS if tls is not None else None,
            backlog=512,
        )

    async def stop(self) -> None:
        """Stops accepting and drops every connection."""
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.drop()
        # Transports tell their protocols of the end in the loop's next rounds.
        for _ in range(20):
            if not self.connections:
                break
            await asyncio.sleep(0)

    def admit(self, connection: _Connection) -> None:
        """Takes a connection in, at the expense of the idlest one when there are too many."""
        self.connections.add(connection)
        if len(self.connections) > self._most_connections:
            others = (other for other in self.connections if other is not connection)
            min(others, key=lambda other: other.active_at).drop()

    def head(self, response: Response, length: int) -> list[tuple[bytes, bytes]]:
        """Returns the header fields of an answer."""
        fields = [
            (b"Content-Type", response.content_type.encode()),
            (b"Server", self._name),
            (b"Date", self._date_field(response.delivery.date_skew)),
            (b"Content-Length", b"%d" % length),
        ]
        for name, value in response.headers.items():
            fields.append((name.encode(), value.encode()))
        return fields

    def _date_field(self, skew: float) -> bytes:
        second = int(self._clock.time() + skew)
        if self._date[0] != second:
            self._date = (second, formatdate(second, usegmt=True).encode())
        return self._date[1]


class _Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(
        self, server: HttpServer, loop: asyncio.AbstractEventLoop, *, secure: bool
    ) -> None:
        self.active_at = loop.time()
        self._server = server
        self._loop = loop
        self._secure = secure
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_LARGEST_HEAD)
        self._transport: asyncio.Transport | None = None
        self._peer = ""
        self._request: h11.Request | None = None
        self._body = bytearray()
        self._busy = False
        self._choked = False
        self._timer: asyncio.TimerHandle | None = None
        self._pending: asyncio.TimerHandle | None = None
        self._finished: Callable[[], None] | None = None

    # What the transport tells us.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._peer = str(peer[0]) if peer else ""
        self._timer = self._loop.call_later(self._server.idle_seconds, self._close_if_idle)
        self._server.admit(self)

    def data_received(self, data: bytes) -> None:
        self.active_at = self._loop.time()
        self._receive(data)

    def eof_received(self) -> bool:
        self._receive(b"")
        # A client may close its side and still wait for the answer; TLS has no half-closed state.
        return self._busy and not self._secure

    def pause_writing(self) -> None:
        self._choked = True

    def resume_writing(self) -> None:
        self._choked = False
        self._advance()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._transport = None
        for timer in (self._timer, self._pending):
            if timer is not None:
                timer.cancel()
        self._server.connections.discard(self)
        self._finish()

    # Reading requests.

    def _receive(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        try:
            self._http.receive_data(data)
        except h11.RemoteProtocolError as error:
            self._refuse(error)
            return
        self._advance()
        # What waits behind a request in progress is enough; reading on would pile it up. With
        # nothing waiting, reading goes on, for it is how a client's going away is noticed.
        if (self._busy or self._choked) and self._http.trailing_data[0]:
            self._pause_reading()

    def _advance(self) -> None:
        try:
            while not self._busy and not self._choked and self._transport is not None:
                if not self._step():
                    break
        except h11.RemoteProtocolError as error:
            self._refuse(error)

    def _step(self) -> bool:
        event = self._http.next_event()
        if event is h11.NEED_DATA:
            self._ask_for_more()
            return False
        if type(event) is h11.Request:
            self._request = event
            self._body.clear()
        elif type(event) is h11.Data:
            self._body += event.data
            if len(self._body) > _LARGEST_BODY:
                self._refuse_with(413, "The request body is too large.")
                return False
        elif type(event) is h11.EndOfMessage:
            self._answer()
        else:
            self.close()
            return False
        return True

    def _ask_for_more(self) -> None:
        if self._http.they_are_waiting_for_100_continue:
            interim = h11.InformationalResponse(status_code=100, headers=[])
            self._write(self._http.send(interim))
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _pause_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    # Answering.

    def _answer(self) -> None:
        self._busy = True
        response = self._response()
        self._finished = response.finished
        delivery = response.delivery
        if delivery.no_answer:
            return
        if delivery.delay > 0:
            self._pending = self._loop.call_later(delivery.delay, self._deliver, response)
        else:
            self._deliver(response, resume=False)

    def _response(self) -> Response:
        head = self._request
        assert head is not None
        # h11 counts heads that come in pieces; one that came whole is weighed here.
        if sum(len(name) + len(value) for name, value in head.headers) > _LARGEST_HEAD:
            return _complaint(431, "The request's headers are too large.")
        try:
            request = Request.parse(
                head.method.decode("ascii", "replace"),
                head.target.decode("ascii", "replace"),
                [(name.decode("ascii"), value.decode("latin-1")) for name, value in head.headers],
                bytes(self._body),
                self._peer,
            )
        except BadTargetError as error:
            return _complaint(400, str(error))
        try:
            return self._server.handler(request)
        except Exception:  # noqa: BLE001 - one bad request must not end the server
            _LOG.exception("The emulator failed to answer %s %s", request.method, request.path)
            return _complaint(500, "The emulator failed; its log says how.")

    def _deliver(self, response: Response, *, resume: bool = True) -> None:
        self._pending = None
        if self._transport is None:
            return
        if response.delivery.reset:
            self._reset()
            return
        try:
            self._send(response, resume=resume)
        except h11.LocalProtocolError:
            _LOG.exception("The emulator cannot send status %d as it stands", response.status)
            self.drop()

    def _send(self, response: Response, *, resume: bool) -> None:
        delivery = response.delivery
        silent = response.status in _BODILESS or (
            self._request is not None and self._request.method == b"HEAD"
        )
        body = b"" if silent else response.body
        length = 0 if response.status in _BODILESS else len(response.body)
        fields = self._server.head(response, length)
        head = self._http.send(h11.Response(status_code=response.status, headers=fields)) or b""
        if delivery.truncate is not None:
            self._write(head + body[: delivery.truncate])
            self.close()
        elif delivery.slow_body > 0 and body:
            self._write(head)
            self._trickle(body, delivery.slow_body / _TRICKLES, -(-len(body) // _TRICKLES))
        else:
            self._write(head + (self._http.send(h11.Data(data=body)) or b"" if body else b""))
            self._complete(resume=resume)

    def _trickle(self, body: bytes, pause: float, size: int) -> None:
        self._pending = None
        if self._transport is None:
            return
        self._write(self._http.send(h11.Data(data=body[:size])))
        if len(body) > size:
            self._pending = self._loop.call_later(pause, self._trickle, body[size:], pause, size)
        else:
            self._complete(resume=True)

    def _complete(self, *, resume: bool) -> None:
        self._write(self._http.send(h11.EndOfMessage()))
        self._finish()
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            self.close()
            return
        self._http.start_next_cycle()
        self._busy = False
        if resume:
            self._advance()

    def _finish(self) -> None:
        finished, self._finished = self._finished, None
        if finished is not None:
            finished()

    # Refusing and closing.

    def _refuse(self, error: h11.RemoteProtocolError) -> None:
        self._refuse_with(error.error_status_hint, "The request is not valid HTTP.")

    def _refuse_with(self, status: int, message: str) -> None:
        if self._http.our_state in {h11.IDLE, h11.SEND_RESPONSE} and self._transport is not None:
            response = _complaint(status, message).with_headers(Connection="close")
            fields = self._server.head(response, len(response.body))
            head = self._http.send(h11.Response(status_code=status, headers=fields)) or b""
            self._write(head + response.body)
        self.close()

    def _write(self, data: bytes | None) -> None:
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """Closes once what was written has gone out."""
        if self._transport is not None:
            self._transport.close()

    def drop(self) -> None:
        """Closes at once."""
        if self._transport is not None:
            self._transport.abort()

    def descriptor(self) -> int:
        """Returns the socket's file descriptor, -1 when closed."""
        connection = self._transport and self._transport.get_extra_info("socket")
        return connection.fileno() if connection else -1

    def _reset(self) -> None:
        if self._transport is not None:
            connection = self._transport.get_extra_info("socket")
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self.drop()

    def _close_if_idle(self) -> None:
        if self._pending is not None:
            # A late or slow answer is under way: the silence is ours, not the client's.
            self.active_at = self._loop.time()
        left = self.active_at + self._server.idle_seconds - self._loop.time()
        if left <= 0:
            self.drop()
        else:
            self._timer = self._loop.call_later(left, self._close_if_idle)


def _complaint(status: int, message: str) -> Response:
    return json_response(status, {"error": message})
