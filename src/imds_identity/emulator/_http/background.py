"""Runs HTTP servers on a thread of their own, in processes that may fork."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl

    from .server import HttpServer

_STOP_SECONDS = 10.0
_running: weakref.WeakSet[Background] = weakref.WeakSet()


class Background:
    """A thread with an event loop that serves until it is stopped."""

    def __init__(self) -> None:
        self._servers: list[tuple[HttpServer, socket.socket, ssl.SSLContext | None]] = []
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None

    def listen(
        self, server: HttpServer, host: str, port: int, tls: ssl.SSLContext | None = None
    ) -> int:
        """Binds a socket for a server.

        Args:
            server: What will serve it.
            host: The address to bind.
            port: The port; 0 chooses a free one.
            tls: Serve https with this context.

        Returns:
            The port.

        Raises:
            OSError: The address cannot be bound.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            if os.name == "posix":
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
        except OSError as error:
            listener.close()
            reason = f"Cannot listen on {host} port {port}: {error.strerror or error}."
            raise OSError(error.errno, reason) from error
        self._servers.append((server, listener, tls))
        return int(listener.getsockname()[1])

    def start(self) -> None:
        """Begins to serve; returns when every socket accepts."""
        self._thread = threading.Thread(
            target=self._run, name="imds-identity-emulator", daemon=True
        )
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        _running.add(self)

    def stop(self) -> None:
        """Stops serving and frees every socket; does nothing in a forked child."""
        _running.discard(self)
        thread, self._thread = self._thread, None
        if thread is not None and self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            thread.join(_STOP_SECONDS)
        for _, listener, _ in self._servers:
            listener.close()
        self._servers.clear()

    def _run(self) -> None:
        loop = asyncio.new_event_loop()
        self._loop = loop
        try:
            loop.run_until_complete(self._serve())
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits for it
            self._failure = error
        finally:
            loop.close()
            self._ready.set()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        servers = [server for server, _, _ in self._servers]
        try:
            for server, listener, tls in self._servers:
                await server.start(listener, tls)
            self._ready.set()
            await self._stop.wait()
        finally:
            for server in servers:
                await server.stop()
            # What is left are connections that never finished their TLS handshake.
            handshakes = asyncio.all_tasks() - {asyncio.current_task()}
            for task in handshakes:
                task.cancel()
            await asyncio.gather(*handshakes, return_exceptions=True)
            # One more round lets TLS transports tell their sockets of the end.
            await asyncio.sleep(0)

    def leave_to_parent(self) -> None:
        """Lets go, in a forked child, of sockets that only the parent serves.

        Were they left open, clients of the parent would not see its connections close.
        """
        self._thread = None
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in self._descriptors():
            # Replaced, not closed: the objects that hold the number may still close it.
            with contextlib.suppress(OSError):
                os.dup2(null, descriptor, inheritable=False)
        os.close(null)

    def _descriptors(self) -> list[int]:
        found = [listener.fileno() for _, listener, _ in self._servers]
        for server, _, _ in self._servers:
            found.extend(server.descriptors())
        return [descriptor for descriptor in found if descriptor >= 0]


def _after_fork() -> None:
    for background in list(_running):
        background.leave_to_parent()
    _running.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
