"""Stubs of services, each of which receives the token of one client over TLS.

A stub speaks as much of its protocol as a client needs until it sends the token.
"""

from __future__ import annotations

import queue
import re
import ssl
import struct
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import TYPE_CHECKING, Any, ClassVar, cast

from support import QuietHandler

if TYPE_CHECKING:
    import socket

_TOKEN = re.compile(rb"eyJ[\w-]+\.eyJ[\w-]+\.[\w-]+")


class TokenServer(ThreadingTCPServer):
    """A server on a free local port.

    Args:
        handler: speaks the protocol.
        context: the TLS configuration.

    Attributes:
        tokens: the received tokens.
    """

    daemon_threads = True

    def __init__(self, handler: type[TokenHandler], context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.context = context
        self.tokens: queue.Queue[str] = queue.Queue()

    def handle_error(self, *_: object) -> None:
        """Ignore clients that disconnect."""


class TokenHandler(StreamRequestHandler):
    """Handles a connection; subclasses pass everything that they receive to `found_token`."""

    def setup(self) -> None:
        self.request = self._wrapped(self.request)
        super().setup()

    def finish(self) -> None:
        with suppress(OSError):
            super().finish()
        self.request.close()

    def _wrapped(self, peer: socket.socket) -> Any:
        return self.token_server.context.wrap_socket(peer, server_side=True)

    @property
    def token_server(self) -> TokenServer:
        return cast("TokenServer", self.server)

    def found_token(self, received: bytes) -> bool:
        """Record the token that ``received`` contains, if there is one."""
        match = _TOKEN.search(received)
        if match:
            self.token_server.tokens.put(match[0].decode())
        return bool(match)

    def read(self, size: int) -> bytes:
        """Read exactly ``size`` bytes."""
        data = self.rfile.read(size)
        if len(data) < size:
            raise EOFError
        return data


class HttpHandler(TokenHandler, QuietHandler, BaseHTTPRequestHandler):
    """Refuses each request as forbidden."""

    handle = BaseHTTPRequestHandler.handle

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.found_token(self.headers.get("Authorization", "").encode())
        self.respond(403, b'{"error": {"code": "Forbidden", "message": "stub"}}')

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815 - the base class's names


class RedisHandler(TokenHandler):
    """RESP: https://redis.io/docs/latest/develop/reference/protocol-spec/."""

    REPLIES: ClassVar[dict[bytes, bytes]] = {
        b"HELLO": b"%2\r\n$6\r\nserver\r\n$5\r\nredis\r\n$5\r\nproto\r\n:3\r\n",
        b"PING": b"+PONG\r\n",
    }

    def handle(self) -> None:
        while line := self.rfile.readline():
            words = []
            for _ in range(int(line[1:])):
                words.append(self.read(int(self.rfile.readline()[1:])))
                self.rfile.readline()
            self.found_token(b" ".join(words))
            self.wfile.write(self.REPLIES.get(words[0].upper(), b"+OK\r\n"))


class KafkaHandler(TokenHandler):
    """SASL of Kafka: https://kafka.apache.org/protocol#sasl_handshake."""

    API_VERSIONS = 18
    UNSUPPORTED_VERSION = 35
    # Key, lowest and highest version of Metadata, SaslHandshake, ApiVersions, SaslAuthenticate.
    VERSIONS = struct.pack(">i12h", 4, 3, 0, 1, 17, 0, 1, 18, 0, 0, 36, 0, 0)

    def handle(self) -> None:
        while True:
            [size] = struct.unpack(">i", self.read(4))
            request = self.read(size)
            key, version, correlation = struct.unpack_from(">hhi", request)
            if self.found_token(request):
                return
            if key == self.API_VERSIONS:
                error = self.UNSUPPORTED_VERSION if version else 0
                body = struct.pack(">h", error) + self.VERSIONS
            else:  # the mechanisms
                body = struct.pack(">hih", 0, 1, 11) + b"OAUTHBEARER"
            response = struct.pack(">i", correlation) + body
            self.wfile.write(struct.pack(">i", len(response)) + response)


class AmqpHandler(TokenHandler):
    """Claims-based security over AMQP 1.0: the token is a message to the link ``$cbs``.

    https://docs.oasis-open.org/amqp/amqp-cbs/v1.0/amqp-cbs-v1.0.html
    """

    SASL_HEADER = b"AMQP\x03\x01\x00\x00"
    HEADER = b"AMQP\x00\x01\x00\x00"
    OPEN, BEGIN, ATTACH, FLOW = 0x10, 0x11, 0x12, 0x13
    WINDOW = b"\x70\x00\x00\x13\x88"
    ADDRESS = b"\xa1\x04$cbs"

    def handle(self) -> None:
        self.read(8)
        self.wfile.write(self.SASL_HEADER + _performative(0x40, b"\xa3\x09ANONYMOUS", kind=1))
        self._frame()
        self.wfile.write(_performative(0x44, b"\x50\x00", kind=1))
        self.read(8)
        self.wfile.write(self.HEADER)
        while True:
            frame = self._frame()
            if self.found_token(frame):
                return
            if len(frame) > 3:  # not only a heartbeat
                self._respond(frame[2], frame)

    def _frame(self) -> bytes:
        """Return the next frame without its header."""
        size, offset, _, self._channel = struct.unpack(">IBBH", self.read(8))
        return self.read(size - 8)[offset * 4 - 8 :]

    def _send(self, code: int, *fields: bytes) -> None:
        self.wfile.write(_performative(code, *fields, channel=self._channel))

    def _respond(self, code: int, frame: bytes) -> None:
        if code == self.OPEN:
            limits = b"\x70\x00\x01\x00\x00", b"\x60\xff\xff"  # of frames and channels
            self._send(code, b"\xa1\x04stub", b"\x40", *limits)
        elif code == self.BEGIN:
            channel = struct.pack(">BH", 0x60, self._channel)
            self._send(code, channel, b"\x43", self.WINDOW, self.WINDOW)
        elif code == self.ATTACH:
            self._attach(frame)

    def _attach(self, frame: bytes) -> None:
        fields = frame[6:] if frame[3] == 0xC0 else frame[12:]
        end = 2 + fields[1] if fields[0] == 0xA1 else 5 + int.from_bytes(fields[1:5], "big")
        name = fields[:end]
        size = {0x43: 1, 0x52: 2, 0x70: 5}[fields[end]]
        handle, role = fields[end : end + size], fields[end + size : end + size + 2]
        is_receiver = role[:1] == b"\x41" or role == b"\x56\x01"
        ends = (_described(0x28, self.ADDRESS), _described(0x29, self.ADDRESS))
        other = b"\x42" if is_receiver else b"\x41"
        modes = b"\x50\x02", b"\x50\x00"
        self._send(self.ATTACH, name, handle, other, *modes, *ends, b"\x40", b"\x42", b"\x43")
        if not is_receiver:
            credit = b"\x52\x64"
            self._send(
                self.FLOW, b"\x43", self.WINDOW, b"\x43", self.WINDOW, handle, b"\x43", credit
            )


_FIELDS = {0x10: 10, 0x11: 8, 0x12: 14, 0x13: 11, 0x44: 2}
"""The number of fields of open, begin, attach, flow and the SASL outcome."""


def _described(code: int, *fields: bytes) -> bytes:
    body = b"".join(fields)
    head = struct.pack(">BII", 0xD0, len(body) + 4, len(fields))
    return b"\x00\x53" + bytes((code,)) + head + body


def _performative(code: int, *fields: bytes, kind: int = 0, channel: int = 0) -> bytes:
    """Return a frame; some clients require that null fields at the end are not omitted."""
    nulls = [b"\x40"] * (_FIELDS.get(code, len(fields)) - len(fields))
    body = _described(code, *fields, *nulls)
    return struct.pack(">IBBH", len(body) + 8, 2, kind, channel) + body


class TdsHandler(TokenHandler):
    """TDS: the handshake of TLS is within packets, and the token in LOGIN7.

    https://learn.microsoft.com/openspecs/windows_protocols/ms-tds
    """

    # Offsets and lengths of VERSION, ENCRYPTION (on) and FEDAUTHREQUIRED, then their values.
    PRELOGIN = struct.pack(">BHHBHHBHHB", 0, 16, 6, 1, 22, 1, 6, 23, 1, 255) + bytes(
        (16, 0, 16, 129, 0, 0, 1, 1)
    )

    def _wrapped(self, peer: socket.socket) -> Any:
        return peer

    def handle(self) -> None:
        self._packet()
        self._send(0x04, self.PRELOGIN)
        received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self.token_server.context.wrap_bio(received, sent, server_side=True)
        while True:
            with suppress(ssl.SSLWantReadError):
                tls.do_handshake()
                break
            if sent.pending:
                self._send(0x12, sent.read())
            received.write(self._packet())
        self._send(0x12, sent.read())
        login = b""
        while not self.found_token(login.replace(b"\x00", b"")):
            data = self.request.recv(65536)
            if not data:
                return
            received.write(data)
            with suppress(ssl.SSLWantReadError):
                while True:
                    login += tls.read(65536)

    def _packet(self) -> bytes:
        _, _, size, _ = struct.unpack(">BBHI", self.read(8))
        return self.read(size - 8)

    def _send(self, kind: int, body: bytes) -> None:
        self.wfile.write(struct.pack(">BBHI", kind, 1, len(body) + 8, 0) + body)
