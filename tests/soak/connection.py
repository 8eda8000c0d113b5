"""One token request on the service's side, and the helpers with which behaviors respond to it."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from .shared_state import HEALTHY, monotonic

if TYPE_CHECKING:
    import random

    from .shared_state import SharedState
    from .token_factory import TokenFactory


class TokenRequest(NamedTuple):
    """The parameters of a token request."""

    resource: str
    selector: str
    identity: str
    bypass: bool


class FaultsEnded(Exception):
    """The soak is draining: no response is delayed any longer."""


class ClientConnection:
    """A token request and the connection on which it arrived."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        request: TokenRequest,
        shared_state: SharedState,
        token_factory: TokenFactory,
        rng: random.Random,
        trap: int,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self.request = request
        self.shared_state = shared_state
        self.token_factory = token_factory
        self.rng = rng
        self.trap = trap

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def pause(self, seconds: float) -> None:
        """Wait, but no longer than the faults last or the client stays connected."""
        until = monotonic() + seconds
        while (left := until - monotonic()) > 0:
            if seconds > 2:
                self.check_faults_last()
            if self._reader.at_eof():
                raise ConnectionResetError
            await asyncio.sleep(min(left, 0.25))

    def check_faults_last(self) -> None:
        """Raise FaultsEnded if the soak is draining."""
        if self.shared_state.service_mode == HEALTHY:
            raise FaultsEnded

    def reset(self) -> bool:
        """Reset the connection."""
        connected = self._writer.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()
        raise ConnectionResetError

    def head(self, status: int, *headers: str) -> bytes:
        lines = (f"HTTP/1.1 {status} Reason", f"Date: {self.token_factory.date()}", *headers)
        return ("\r\n".join(lines) + "\r\n").encode()

    async def send_response(
        self, status: int, body: bytes, *headers: str, content_type: str = "application/json"
    ) -> bool:
        keep = self.rng.random() < 0.5
        headers = (
            f"Content-Type: {content_type}",
            f"Content-Length: {len(body)}",
            f"Connection: {'keep-alive' if keep else 'close'}",
            *headers,
        )
        await self.write(self.head(status, *headers) + b"\r\n" + body)
        return keep

    async def send_error(self, status: int, *headers: str) -> bool:
        """Send the service's JSON error response."""
        error = {"error": "service_error", "error_description": "Injected by the soak test."}
        return await self.send_response(status, json.dumps(error).encode(), *headers)

    async def send_invalid_token(
        self, reason: str, changes: dict[str, Any], status: int = 200
    ) -> bool:
        """Send a response with ``changes``, whose token clients must refuse."""
        issued = self.token_factory.token(self.request, invalid=reason)
        payload = self.token_factory.payload(self.request, issued, **changes)
        return await self.send_response(status, json.dumps(payload).encode())
