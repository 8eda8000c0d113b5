"""A token service that is sound mostly and hostile by moods: raw sockets, one process.

Run as ``python -m soak.service FOLDER SEED``; prints its port and the port of a trap, to which
nobody may ever connect.
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

from .behaviors import FAILING, HOSTILE, sound
from .connection import ClientConnection, ConnectionOver, Wanted
from .event_log import EventLog
from .shared_state import CALM, GONE, OUTAGE, ROUGH, SOUND, SYSTEM, SharedState
from .token_factory import TokenFactory

if TYPE_CHECKING:
    from .behaviors import Behavior

_SHARE_OF_HOSTILE = {SOUND: 0.0, CALM: 0.12, ROUGH: 0.5}
_SELECTORS = ("client_id", "object_id", "msi_res_id")
TRAPPED = "requests to a proxy or after a redirect"


class Service:
    """The service.

    Args:
        folder: of the soak.
        seed: of its dice.
    """

    def __init__(self, folder: str, seed: int) -> None:
        self.shared_state = SharedState(f"{folder}/shared_state")
        self.event_log = EventLog(f"{folder}/event_log")
        self.dice = random.Random(seed)
        self.token_factory = TokenFactory(self.shared_state, self.dice)
        self.counts: Counter[str] = Counter()
        self.present = 0
        self.most = 0
        self._mood = SOUND
        self._failing: Behavior = FAILING[0]
        self._port = 0
        self._trap = 0

    async def run(self) -> None:
        """Serve until the process that started this one is gone."""
        trap = await asyncio.start_server(self._trapped, "127.0.0.1", 0)
        self._trap = trap.sockets[0].getsockname()[1]
        server = await self._listen()
        print(self._port, self._trap, flush=True)
        parent = os.getppid()
        while os.getppid() == parent:
            await asyncio.sleep(0.25)
            gone = self.shared_state.mood == GONE
            if gone and server is not None:
                server.close()
                server = None
            elif not gone and server is None:
                server = await self._listen()
            self._tell()

    async def _listen(self) -> asyncio.Server | None:
        with suppress(OSError):  # the port may linger for a moment
            server = await asyncio.start_server(
                self._visited, "127.0.0.1", self._port, reuse_address=True, backlog=256
            )
            self._port = server.sockets[0].getsockname()[1]
            return server
        return None

    def _tell(self) -> None:
        self.counts["service: most requests at once"] = self.most
        self.event_log.counts(self.counts, role="service")

    async def _trapped(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.read(4096)).decode("latin-1").split("\r\n")
        agent = next((line for line in head if line.lower().startswith("user-agent")), "")
        self.event_log.broken(TRAPPED, f"{head[0].partition('?')[0]} {agent}")
        writer.close()

    async def _visited(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.present += 1
        self.most = max(self.most, self.present)
        try:
            while await self._answered(reader, writer):
                pass
        except (
            OSError,
            ConnectionOver,
            ValueError,
            asyncio.IncompleteReadError,
            asyncio.LimitOverrunError,
        ):
            pass
        finally:
            self.present -= 1
            with suppress(OSError, RuntimeError):
                writer.close()

    async def _answered(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        connection = ClientConnection(
            reader,
            writer,
            _wanted(head),
            self.shared_state,
            self.token_factory,
            self.dice,
            self._trap,
        )
        manner = self._manner()
        self.counts[f"service: {manner.__name__.replace('_', ' ')}"] += 1
        return await manner(connection)

    def _manner(self) -> Behavior:
        mood = self.shared_state.mood
        if mood != self._mood:
            self._mood = mood
            self._failing = self.dice.choice(FAILING)
        if mood == OUTAGE:
            return self._failing
        hostile = self.dice.random() < _SHARE_OF_HOSTILE.get(mood, 0.0)
        return self.dice.choice(HOSTILE) if hostile else sound(self.dice)


def _wanted(head: bytes) -> Wanted:
    lines = head.decode("latin-1").split("\r\n")
    _, target, _ = lines[0].split(" ")
    if "metadata: true" not in [line.lower() for line in lines]:
        raise ValueError("not a client of the metadata service")
    query = {name: values[0] for name, values in parse_qs(urlsplit(target).query).items()}
    selector = next((name for name in _SELECTORS if name in query), "")
    return Wanted(
        resource=query["resource"],
        selector=selector,
        who=query.get(selector, SYSTEM),
        bypass="bypass_cache" in query,
    )


def end_with_parent() -> None:
    """Let the kernel kill this process when the one that started it is killed."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))


if __name__ == "__main__":
    end_with_parent()
    asyncio.run(Service(sys.argv[1], int(sys.argv[2])).run())
