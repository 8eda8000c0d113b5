"""An HTTP server on top of aiohttp, which can also send the broken responses of faults.

When a client disconnects, its request is canceled. Idle connections are closed after a while, and
the oldest connection is closed when there are too many.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import socket
import struct
import sys
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

from aiohttp import web

from .._messages import BadTargetError, Request, Response, json_response
from .connection import Connection

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    from .._clock import Clock

_LOG = logging.getLogger(__name__)
# aiohttp would log a traceback for each malformed request; this module logs its own errors.
_SILENT = logging.Logger("silent", logging.CRITICAL + 1)  # noqa: LOG001 - not part of the logger hierarchy
_INVALID = "The request is not valid HTTP."
_MAX_HEAD_SIZE = 16 * 1024
_MAX_BODY_SIZE = 256 * 1024
_MAX_CONNECTIONS = 400
_IDLE_SECONDS = 120.0
_BODY_SECONDS = 60.0
_HANDSHAKE_SECONDS = 10.0
_SLOW_CHUNKS = 10
_STATUSES_WITHOUT_BODY = frozenset({204, 304})
# SO_LINGER on, for zero seconds; the struct has two shorts on Windows, and two ints elsewhere.
_RESET_ON_CLOSE = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


class HttpServer:
    """Serves one handler on one listening socket; the handler must not block the loop."""

    def __init__(
        self,
        handler: Callable[[Request], Response],
        clock: Clock,
        *,
        name: str,
        on_rejected: Callable[[Request, Response], Response] | None = None,
    ) -> None:
        self._handler = handler
        self._on_rejected = on_rejected
        self._clock = clock
        self._name = name
        self._date = (0, "")
        self._http: _LimitedServer | None = None
        self._listening: asyncio.Server | None = None

    async def start(self, listener: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        """Start to accept connections on a bound socket, and take ownership of it."""
        self._http = _LimitedServer(
            self._serve,
            reject=lambda request: self._reject(request, 400, _INVALID),
            send=lambda response: web.Response(
                status=response.status, body=response.body, headers=self._headers(response)
            ),
            request_factory=_request_factory(asyncio.get_running_loop()),
            handler_cancellation=True,
            access_log=None,
            logger=_SILENT,
            keepalive_timeout=_IDLE_SECONDS,
            lingering_time=1.0,
            max_line_size=_MAX_HEAD_SIZE,
            max_field_size=_MAX_HEAD_SIZE,
            auto_decompress=False,
        )
        self._listening = await asyncio.get_running_loop().create_server(
            self._http,
            sock=listener,
            ssl=tls,
            ssl_handshake_timeout=_HANDSHAKE_SECONDS if tls is not None else None,
            backlog=512,
        )

    async def stop(self) -> None:
        """Stop accepting and close all connections."""
        if self._listening is not None:
            self._listening.close()
        for transport in self._transports():
            transport.abort()
        if self._http is not None:
            await self._http.shutdown(0)

    def descriptors(self) -> list[int]:
        """Return the file descriptors of the open connections."""
        connections = [transport.get_extra_info("socket") for transport in self._transports()]
        return [connection.fileno() for connection in connections if connection is not None]

    def _transports(self) -> list[asyncio.Transport]:
        connections = self._http.connections if self._http is not None else []
        return [each.transport for each in connections if each.transport is not None]

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        response = await self._respond(request)
        headers: dict[str, str] = {}
        try:
            return await self._send(request, response, headers)
        finally:
            if response.finished is not None:
                response.finished(headers)

    async def _respond(self, request: web.BaseRequest) -> Response:
        try:
            return self._handler(await _read_request(request))
        except (BadTargetError, asyncio.TimeoutError) as error:
            message = str(error) or "The request body did not arrive in time."
            return self._reject(_unread(request), 400, message)
        except web.HTTPRequestEntityTooLarge:
            return self._reject(_unread(request), 413, "The request body is too large.")
        except web.RequestPayloadError:
            return self._reject(_unread(request), 400, "The request body is not valid HTTP.")
        except Exception:  # noqa: BLE001 - one request must not stop the server
            _LOG.exception("The emulator failed to handle %s %s", request.method, request.raw_path)
            return json_response(500, {"error": "Internal error of the emulator; see its log."})

    def _reject(self, request: Request, status: int, message: str) -> Response:
        response = json_response(status, {"error": message})
        return response if self._on_rejected is None else self._on_rejected(request, response)

    async def _send(
        self, request: web.BaseRequest, response: Response, headers: dict[str, str]
    ) -> web.StreamResponse:
        delivery = response.delivery
        if delivery.no_answer:
            await asyncio.Event().wait()
        if delivery.delay > 0:
            await asyncio.sleep(delivery.delay)
        headers.update(self._headers(response))
        has_body = response.body and response.status not in _STATUSES_WITHOUT_BODY
        if delivery.reset:
            _reset(request)
        elif delivery.truncate is not None:
            return await _send_truncated(request, response, headers, delivery.truncate)
        elif delivery.slow_body > 0 and has_body:
            return await _send_slowly(request, response, headers, delivery.slow_body)
        sent = web.Response(status=response.status, body=response.body, headers=headers)
        if delivery.close:
            sent.force_close()
        return sent

    def _headers(self, response: Response) -> dict[str, str]:
        return {
            "Content-Type": response.content_type,
            "Server": self._name,
            "Date": self._date_header(response.delivery.date_skew),
            **response.headers,
        }

    def _date_header(self, skew: float) -> str:
        second = int(self._clock.time() + skew)
        if self._date[0] != second:
            self._date = (second, formatdate(second, usegmt=True))
        return self._date[1]


class _LimitedServer(web.Server):
    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        *,
        reject: Callable[[Request], Response],
        send: Callable[[Response], web.Response],
        **options: Any,
    ) -> None:
        super().__init__(handler, **options)
        self._new_connection = functools.partial(Connection, self, reject, send)

    def __call__(self) -> web.RequestHandler:
        return self._new_connection(loop=self._loop, **self._kwargs)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        connections = self.connections
        if len(connections) > _MAX_CONNECTIONS:
            connections[0].force_close()


def _request_factory(loop: asyncio.AbstractEventLoop) -> Callable[..., web.BaseRequest]:
    def make(message: Any, payload: Any, *connection: Any) -> web.BaseRequest:
        protocol, writer, task = connection
        return web.BaseRequest(
            message, payload, protocol, writer, task, loop, client_max_size=_MAX_BODY_SIZE
        )

    return make


async def _read_request(request: web.BaseRequest) -> Request:
    body = b""
    if request.can_read_body:
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            # aiohttp sends no error response after output; the interim response must not count.
            request.writer.output_size = 0
        body = await asyncio.wait_for(request.read(), _BODY_SECONDS)
    return Request.parse(
        request.method, request.raw_path, _headers_of(request), body, request.remote or ""
    )


def _unread(request: web.BaseRequest) -> Request:
    """Return a request whose target is malformed or whose body cannot be read."""
    path = request.raw_path.partition("?")[0]
    headers = _headers_of(request)
    return Request(request.method, request.raw_path, path, (), headers, peer=request.remote or "")


def _headers_of(request: web.BaseRequest) -> tuple[tuple[str, str], ...]:
    return tuple(
        (name.decode("latin-1").lower(), value.decode("latin-1"))
        for name, value in request.raw_headers
    )


def _reset(request: web.BaseRequest) -> None:
    transport = request.transport
    if transport is not None:
        with contextlib.suppress(OSError):
            transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE
            )
        transport.abort()


async def _send_truncated(
    request: web.BaseRequest, response: Response, headers: dict[str, str], size: int
) -> web.StreamResponse:
    headers["Content-Length"] = str(len(response.body))
    sent = web.Response(status=response.status, body=response.body[:size], headers=headers)
    await sent.prepare(request)
    await sent.write_eof()
    if request.transport is not None:
        request.transport.close()
    return sent


async def _send_slowly(
    request: web.BaseRequest, response: Response, headers: dict[str, str], seconds: float
) -> web.StreamResponse:
    sent = web.StreamResponse(status=response.status, headers=headers)
    sent.content_length = len(response.body)
    await sent.prepare(request)
    size = -(-len(response.body) // _SLOW_CHUNKS)
    for start in range(0, len(response.body), size):
        if start:
            await asyncio.sleep(seconds / _SLOW_CHUNKS)
        await sent.write(response.body[start : start + size])
    return sent
