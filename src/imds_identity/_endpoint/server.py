"""The endpoint's server, which stays available whatever its clients do.

One thread reads all requests: they are small, and a well-behaved client sends its request at once.
The server closes slow connections, and the oldest one if there are too many. Only a granted
request without a recent response gets its own thread, because it may have to wait for the metadata
service.
"""

from __future__ import annotations

import math
import selectors
import socket
import struct
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, cast

from .._platform.threads import start_thread
from .connection import ClientConnection, ClientDisconnected
from .listen import ip_address_of
from .policy import authorize
from .responses import Refusal, busy_response, internal_error_response

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .._platform.clock import Clock
    from .policy import AccessPolicy, HttpRequest
    from .responses import GrantedRequest, HttpResponse

MAX_CONNECTIONS = 256
MAX_THREADS = 128
READ_SECONDS = 5.0
_DISCARD_SECONDS = 1.0
_POLL_SECONDS = 1.0
# A response of this size fits into a socket's empty buffer, so that sending it does not block.
_MAX_DIRECT_BYTES = 12 * 1024
_NO_DESCRIPTOR_SECONDS = 0.05
# struct ucred: pid, uid, gid
_CREDENTIALS = struct.Struct("3i")


class TokenServer:
    """Responds to token requests; ``handle`` responds to those that ``policy`` grants.

    ``cached`` returns a response without waiting, or None: ``handle`` then runs in a thread.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        policy: AccessPolicy,
        handle: Callable[[GrantedRequest], HttpResponse],
        clock: Clock,
        cached: Callable[[GrantedRequest], HttpResponse | None] = lambda _: None,
    ) -> None:
        self._listeners = listeners
        self._policy = policy
        self._handle = handle
        self._cached = cached
        self._clock = clock
        self._thread_slots = threading.Semaphore(MAX_THREADS)
        self._selector = selectors.DefaultSelector()
        # From the oldest to the newest.
        self._connections: dict[socket.socket, ClientConnection] = {}
        self._stop_sender, self._stop_receiver = socket.socketpair()
        self._stopped = False

    def serve(self) -> None:
        """Serve until `stop` is called."""
        self._selector.register(self._stop_receiver, selectors.EVENT_READ)
        for listener in self._listeners:
            listener.setblocking(False)
            self._selector.register(listener, selectors.EVENT_READ)
        while not self._stopped:
            for key, _ in self._selector.select(_POLL_SECONDS):
                with suppress(Exception):  # an error with one client must not stop the server
                    self._on_readable(cast("socket.socket", key.fileobj))
            self._close_expired(self._clock.now())
        self._close_expired(math.inf)
        self._selector.close()
        for each in (*self._listeners, self._stop_sender, self._stop_receiver):
            each.close()

    def stop(self) -> None:
        """Make `serve` return; another thread calls this."""
        self._stopped = True
        with suppress(OSError):
            self._stop_sender.send(b"x")

    def _on_readable(self, ready: socket.socket) -> None:
        if ready in self._listeners:
            self._accept(ready)
        elif ready in self._connections:  # it may have been closed in this round
            self._receive(self._connections[ready])

    def _close_expired(self, now: float) -> None:
        for each in [each for each in self._connections.values() if each.deadline <= now]:
            self._close(each)

    def _accept(self, listener: socket.socket) -> None:
        if len(self._connections) >= MAX_CONNECTIONS:
            self._close_oldest()
        try:
            peer, _ = listener.accept()
        except OSError:
            # Probably the process has too many open files: close a connection to free one.
            if self._connections:
                self._close_oldest()
            else:
                self._clock.sleep(_NO_DESCRIPTOR_SECONDS)
            return
        peer.setblocking(False)
        with suppress(OSError):
            hosts, uid = _allowed_hosts(peer, self._policy), _uid_of(peer)
            deadline = self._clock.now() + READ_SECONDS
            self._connections[peer] = ClientConnection(peer, hosts, uid, deadline)
            self._selector.register(peer, selectors.EVENT_READ)
            return
        peer.close()

    def _receive(self, connection: ClientConnection) -> None:
        try:
            request = connection.receive()
            if request is not None:
                self._dispatch(connection, request)
        except Refusal as refusal:
            self._respond_and_discard(connection, refusal.response)
        except ClientDisconnected:
            self._close(connection)
        except Exception:
            self._close(connection)
            raise

    def _dispatch(self, connection: ClientConnection, request: HttpRequest) -> None:
        granted = authorize(request, self._policy)
        response = self._cached(granted)
        if response is not None and len(response.body) <= _MAX_DIRECT_BYTES:
            self._forget(connection)
            connection.respond(response)
            connection.peer.close()
            return
        if not self._thread_slots.acquire(blocking=False):
            busy = busy_response("Too many requests are waiting for tokens.")
            self._respond_and_discard(connection, busy)
            return

        self._forget(connection)
        try:
            start_thread(partial(self._run_handler, connection, granted))
        except RuntimeError:
            self._respond_and_close(connection, busy_response("Cannot start another thread."))

    def _run_handler(self, connection: ClientConnection, granted: GrantedRequest) -> None:
        try:
            response = self._handle(granted)
        except Exception as error:  # noqa: BLE001 - its message may contain a secret
            response = internal_error_response(error)
        self._respond_and_close(connection, response)

    def _respond_and_close(self, connection: ClientConnection, response: HttpResponse) -> None:
        connection.peer.settimeout(READ_SECONDS)
        connection.respond(response)
        connection.peer.close()
        self._thread_slots.release()

    def _respond_and_discard(self, connection: ClientConnection, response: HttpResponse) -> None:
        connection.respond(response)
        connection.discard()
        connection.deadline = min(connection.deadline, self._clock.now() + _DISCARD_SECONDS)

    def _forget(self, connection: ClientConnection) -> None:
        self._selector.unregister(connection.peer)
        del self._connections[connection.peer]

    def _close_oldest(self) -> None:
        self._close(next(iter(self._connections.values())))

    def _close(self, connection: ClientConnection) -> None:
        self._forget(connection)
        connection.peer.close()


def _allowed_hosts(peer: socket.socket, policy: AccessPolicy) -> frozenset[str]:
    """Return the values that the Host field of a request over ``peer`` may have."""
    if (found := ip_address_of(peer)) is None:
        return frozenset(("localhost",))
    address, port = found
    plain = address.removeprefix("::ffff:")
    names = [f"[{plain}]" if ":" in plain else plain, *map(str.lower, policy.names)]
    if plain.startswith("127.") or plain == "::1":
        names.append("localhost")
    return frozenset(f"{name}:{port}" for name in names) | (
        frozenset(names) if port == 80 else frozenset()
    )


def _uid_of(peer: socket.socket) -> int | None:
    """Return the user id of a Unix socket's client; None for another kind of socket."""
    if ip_address_of(peer):
        return None
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(credentials)[1])
