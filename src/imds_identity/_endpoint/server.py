"""Listens, and keeps listening whatever clients do.

One thread reads requests, which are small and come at once from whoever means well. Who is slow, or
comes in a crowd, makes place for others: the oldest of too many connections is cut. Only a request
that is granted gets a thread, because it may have to wait for the machine's own service.
"""

from __future__ import annotations

import math
import selectors
import socket
import struct
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from .._platform.threads import start_thread
from .connection import Connection, Gone
from .policy import wanted_of
from .responses import Refusal, broken, busy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .._platform.clock import Clock
    from .policy import Asked, Rules
    from .responses import Answer, Wanted

MOST_CONNECTIONS = 256
MOST_THREADS = 128
READ_SECONDS = 5.0
_DISCARD_SECONDS = 1.0
_ROUND = 1.0
_BREATH = 0.05
# struct ucred: pid, uid, gid
_CREDENTIALS = struct.Struct("3i")


class Server:
    """Answers requests for tokens.

    Args:
        listeners: sockets that listen already.
        rules: who gets which token.
        give: fetches one that may be given.
        clock: times the clients.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        rules: Rules,
        give: Callable[[Wanted], Answer],
        clock: Clock,
    ) -> None:
        self._listeners = listeners
        self._rules = rules
        self._give = give
        self._clock = clock
        self._threads = threading.Semaphore(MOST_THREADS)
        self._selector = selectors.DefaultSelector()
        # In the order in which they came.
        self._open: dict[socket.socket, Connection] = {}
        self._waker, self._woken = socket.socketpair()
        self._stopped = False

    def serve(self) -> None:
        """Serve until `stop` is called."""
        self._selector.register(self._woken, selectors.EVENT_READ)
        for listener in self._listeners:
            listener.setblocking(False)
            self._selector.register(listener, selectors.EVENT_READ)
        while not self._stopped:
            for key, _ in self._selector.select(_ROUND):
                with suppress(Exception):  # one client must not be the end for all others
                    self._attend(key.fileobj)  # type: ignore[arg-type]
            self._cut_late(self._clock.now())
        self._cut_late(math.inf)
        self._selector.close()
        for end in (*self._listeners, self._waker, self._woken):
            end.close()

    def stop(self) -> None:
        """End `serve`, from another thread."""
        self._stopped = True
        with suppress(OSError):
            self._waker.send(b"x")

    def _attend(self, ready: socket.socket) -> None:
        if ready in self._listeners:
            self._accept(ready)
        elif ready in self._open:  # else it was cut a moment ago
            self._read(self._open[ready])

    def _cut_late(self, now: float) -> None:
        for late in [each for each in self._open.values() if each.ends <= now]:
            self._cut(late)

    def _accept(self, listener: socket.socket) -> None:
        if len(self._open) >= MOST_CONNECTIONS:
            self._cut(next(iter(self._open.values())))
        try:
            peer, _ = listener.accept()
        except OSError:
            # Too many files are open, maybe elsewhere in this process: one fewer is needed here.
            if self._open:
                self._cut(next(iter(self._open.values())))
            else:
                self._clock.sleep(_BREATH)
            return
        peer.setblocking(False)
        with suppress(OSError):
            hosts, uid = _hosts_of(peer, self._rules), _uid_of(peer)
            ends = self._clock.now() + READ_SECONDS
            self._open[peer] = Connection(peer, hosts, uid, ends)
            self._selector.register(peer, selectors.EVENT_READ)
            return
        peer.close()

    def _read(self, connection: Connection) -> None:
        try:
            asked = connection.read()
            if asked is not None:
                self._grant(connection, asked)
        except Refusal as refusal:
            self._answer_and_discard(connection, refusal.answer)
        except Gone:
            self._cut(connection)
        except Exception:
            self._cut(connection)
            raise

    def _grant(self, connection: Connection, asked: Asked) -> None:
        wanted = wanted_of(asked, self._rules)
        if not self._threads.acquire(blocking=False):
            self._answer_and_discard(connection, busy("Too many requests wait for tokens."))
            return

        self._forget(connection)
        try:
            start_thread(partial(self._serve_one, connection, wanted))
        except RuntimeError:  # there can be no more threads
            self._finish(connection, busy("There can be no more threads."))

    def _serve_one(self, connection: Connection, wanted: Wanted) -> None:
        try:
            answer = self._give(wanted)
        except Exception as error:  # noqa: BLE001 - what it says may be secret
            answer = broken(type(error).__name__)
        self._finish(connection, answer)

    def _finish(self, connection: Connection, answer: Answer) -> None:
        connection.peer.settimeout(READ_SECONDS)
        connection.answer(answer)
        connection.peer.close()
        self._threads.release()

    def _answer_and_discard(self, connection: Connection, answer: Answer) -> None:
        connection.answer(answer)
        connection.ends = min(connection.ends, self._clock.now() + _DISCARD_SECONDS)

    def _forget(self, connection: Connection) -> None:
        self._selector.unregister(connection.peer)
        del self._open[connection.peer]

    def _cut(self, connection: Connection) -> None:
        self._forget(connection)
        connection.peer.close()


def _hosts_of(peer: socket.socket, rules: Rules) -> frozenset[str]:
    """What the Host field of a request over ``peer`` may say."""
    if peer.family not in (socket.AF_INET, socket.AF_INET6):
        return frozenset(("localhost",))
    address, port = peer.getsockname()[:2]
    plain = address.removeprefix("::ffff:")
    names = [f"[{plain}]" if ":" in plain else plain, *rules.names]
    if plain.startswith("127.") or plain == "::1":
        names.append("localhost")
    return frozenset(f"{name}:{port}" for name in names) | (
        frozenset(names) if port == 80 else frozenset()
    )


def _uid_of(peer: socket.socket) -> int | None:
    """Who is at the other end of a Unix socket; None for another kind of socket."""
    if peer.family in (socket.AF_INET, socket.AF_INET6):
        return None
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(credentials)[1])
