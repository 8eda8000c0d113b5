"""A token service whose behavior depends on its mode: raw sockets, one process.

Run as ``python -m soak.service FOLDER SEED``; prints its port and the port of a trap, to which
clients must never connect.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import random
import signal
import sys
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from .connection import ClientConnection, FaultsEnded, TokenRequest
from .event_log import EventLog
from .service_behaviors import FAILING, HOSTILE, healthy
from .shared_state import (
    DOWN,
    FLAKY,
    HEALTHY,
    MOSTLY_HEALTHY,
    OUTAGE,
    SYSTEM_ASSIGNED,
    SharedState,
)
from .token_factory import TokenFactory

if TYPE_CHECKING:
    from .service_behaviors import Behavior

_HOSTILE_SHARE = {HEALTHY: 0.0, MOSTLY_HEALTHY: 0.12, FLAKY: 0.5}
_SELECTORS = ("client_id", "object_id", "msi_res_id")
TRAPPED = "requests sent to a proxy or a redirect target"


class Service:
    """The token service."""

    def __init__(self, folder: str, seed: int) -> None:
        self.shared_state = SharedState(f"{folder}/shared_state")
        self.event_log = EventLog(f"{folder}/event_log")
        self.rng = random.Random(seed)
        self.token_factory = TokenFactory(self.shared_state, self.rng)
        self.counts: Counter[str] = Counter()
        self.connections = 0
        self.most_connections = 0
        self._mode = HEALTHY
        self._outage_behavior: Behavior = FAILING[0]
        self._port = 0
        self._trap = 0

    async def run(self) -> None:
        """Serve until the parent process ends."""
        trap = await asyncio.start_server(self._serve_trap, "127.0.0.1", 0)
        self._trap = trap.sockets[0].getsockname()[1]
        server = await self._listen()
        print(self._port, self._trap, flush=True)
        parent = os.getppid()
        while os.getppid() == parent:
            await asyncio.sleep(0.25)
            down = self.shared_state.service_mode == DOWN
            if down and server is not None:
                server.close()
                server = None
            elif not down and server is None:
                server = await self._listen()
            self.counts["service: most connections at once"] = self.most_connections
            self.event_log.write_counts(self.counts)

    async def _listen(self) -> asyncio.Server | None:
        with suppress(OSError):  # the port may be in use for a moment
            server = await asyncio.start_server(
                self._serve, "127.0.0.1", self._port, reuse_address=True, backlog=256
            )
            self._port = server.sockets[0].getsockname()[1]
            return server
        return None

    async def _serve_trap(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.read(4096)).decode("latin-1").split("\r\n")
        agent = next((line for line in head if line.lower().startswith("user-agent")), "")
        self.event_log.write_violation(TRAPPED, f"{head[0].partition('?')[0]} {agent}")
        writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.most_connections = max(self.most_connections, self.connections)
        try:
            while await self._handle_request(reader, writer):
                pass
        except (
            OSError,
            FaultsEnded,
            ValueError,
            asyncio.IncompleteReadError,
            asyncio.LimitOverrunError,
        ):
            pass
        finally:
            self.connections -= 1
            with suppress(OSError, RuntimeError):
                writer.close()

    async def _handle_request(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        connection = ClientConnection(
            reader,
            writer,
            _parse_request(head),
            self.shared_state,
            self.token_factory,
            self.rng,
            self._trap,
        )
        behavior = self._choose_behavior()
        self.counts[f"service: {behavior.__name__.replace('_', ' ')}"] += 1
        return await behavior(connection)

    def _choose_behavior(self) -> Behavior:
        mode = self.shared_state.service_mode
        if mode != self._mode:
            self._mode = mode
            self._outage_behavior = self.rng.choice(FAILING)
        if mode == OUTAGE:
            return self._outage_behavior
        hostile = self.rng.random() < _HOSTILE_SHARE.get(mode, 0.0)
        return self.rng.choice(HOSTILE) if hostile else healthy(self.rng)


def _parse_request(head: bytes) -> TokenRequest:
    lines = head.decode("latin-1").split("\r\n")
    _, target, _ = lines[0].split(" ")
    if "metadata: true" not in [line.lower() for line in lines]:
        raise ValueError("a request without the header Metadata: true")
    query = {name: values[0] for name, values in parse_qs(urlsplit(target).query).items()}
    selector = next((name for name in _SELECTORS if name in query), "")
    return TokenRequest(
        resource=query["resource"],
        selector=selector,
        identity=query.get(selector, SYSTEM_ASSIGNED),
        bypass="bypass_cache" in query,
    )


def end_with_parent() -> None:
    """Make the kernel kill this process when its parent ends."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))


if __name__ == "__main__":
    end_with_parent()
    asyncio.run(Service(sys.argv[1], int(sys.argv[2])).run())
