"""One request, and what it takes to answer it in any manner."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from .shared_state import SOUND, steady

if TYPE_CHECKING:
    import random

    from .shared_state import SharedState
    from .token_factory import TokenFactory


class Wanted(NamedTuple):
    """What a request asks for."""

    resource: str
    selector: str
    who: str
    bypass: bool


class ConnectionOver(Exception):
    """The soak ends: nothing is held up any longer."""


class ClientConnection:
    """One request and what it takes to answer it."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        wanted: Wanted,
        shared_state: SharedState,
        token_factory: TokenFactory,
        dice: random.Random,
        trap: int,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self.wanted = wanted
        self.shared_state = shared_state
        self.token_factory = token_factory
        self.dice = dice
        self.trap = trap

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def hold(self, seconds: float) -> None:
        """Let time pass, until the soak ends or the client has gone."""
        until = steady() + seconds
        while (left := until - steady()) > 0:
            if seconds > 2:
                self.go_on()
            if self._reader.at_eof():
                raise ConnectionResetError
            await asyncio.sleep(min(left, 0.25))

    def go_on(self) -> None:
        """End this connection if the soak ends."""
        if self.shared_state.mood == SOUND:
            raise ConnectionOver

    def reset(self) -> bool:
        """Reset the connection."""
        made = self._writer.get_extra_info("socket")
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()
        raise ConnectionResetError

    def head(self, status: int, *lines: str) -> bytes:
        said = (f"HTTP/1.1 {status} Said", f"Date: {self.token_factory.date()}", *lines)
        return ("\r\n".join(said) + "\r\n").encode()

    async def answer(
        self, status: int, body: bytes, *lines: str, kind: str = "application/json"
    ) -> bool:
        keep = self.dice.random() < 0.5
        size, connection = f"Content-Length: {len(body)}", "keep-alive" if keep else "close"
        lines = (f"Content-Type: {kind}", size, f"Connection: {connection}", *lines)
        await self.write(self.head(status, *lines) + b"\r\n" + body)
        return keep

    async def say(self, status: int, *lines: str) -> bool:
        """An error in the service's own words."""
        words = {"error": "unwell", "error_description": "what the service says"}
        return await self.answer(status, json.dumps(words).encode(), *lines)

    async def token(self, reason: str, changes: dict[str, Any], status: int = 200) -> bool:
        """A token that no client may take, with ``changes`` in the answer."""
        facts = self.token_factory.token(self.wanted, refusable=reason)
        payload = self.token_factory.payload(self.wanted, facts, **changes)
        return await self.answer(status, json.dumps(payload).encode())
