"""A thread that runs HTTP servers, in processes that may fork."""

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
_live_threads: weakref.WeakSet[ServerThread] = weakref.WeakSet()


class Listener:
    """A bound socket, which starts to listen when its server starts; port 0 is any free port."""

    def __init__(self, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._server: HttpServer | None = None
        self._tls: ssl.SSLContext | None = None
        try:
            if os.name == "posix":
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((host, port))
        except OSError as error:
            self._socket.close()
            reason = f"Cannot listen on {host} port {port}: {error.strerror or error}."
            raise OSError(error.errno, reason) from error
        self.port = int(self._socket.getsockname()[1])

    def serve(self, server: HttpServer, tls: ssl.SSLContext | None = None) -> None:
        """Set the server of this socket; it uses https if there is a TLS context."""
        self._server, self._tls = server, tls

    async def start(self) -> None:
        assert self._server is not None
        await self._server.start(self._socket, self._tls)

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop()

    def close(self) -> None:
        self._socket.close()

    def descriptors(self) -> list[int]:
        found = [self._socket.fileno()]
        if self._server is not None:
            found += self._server.descriptors()
        return [descriptor for descriptor in found if descriptor >= 0]


class ServerThread:
    """A thread with an event loop that serves until `stop`."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None

    def bind(self, host: str, port: int) -> Listener:
        """Bind a socket and return it; `stop` closes it."""
        listener = Listener(host, port)
        self._listeners.append(listener)
        return listener

    def start(self) -> None:
        """Start to serve; return when all sockets accept connections."""
        self._thread = threading.Thread(
            target=self._run, name="imds-identity-emulator", daemon=True
        )
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        _live_threads.add(self)

    def stop(self) -> None:
        """Stop serving and close all sockets."""
        _live_threads.discard(self)
        thread, self._thread = self._thread, None
        if thread is not None and self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            thread.join(_STOP_SECONDS)
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()

    def _run(self) -> None:
        # The default loop on Windows does not close connections that are in a TLS handshake.
        loop = asyncio.SelectorEventLoop()
        self._loop = loop
        try:
            loop.run_until_complete(self._serve())
        except BaseException as error:  # noqa: BLE001 - start() raises it
            self._failure = error
        finally:
            loop.close()
            self._ready.set()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        try:
            for listener in self._listeners:
                await listener.start()
            self._ready.set()
            await self._stop.wait()
        finally:
            for listener in self._listeners:
                await listener.stop()
            # During a TLS handshake a connection belongs to a task, not yet to a server.
            handshakes = asyncio.all_tasks() - {asyncio.current_task()}
            for task in handshakes:
                task.cancel()
            await asyncio.gather(*handshakes, return_exceptions=True)
            # TLS transports close their sockets in the next iteration of the loop.
            await asyncio.sleep(0)

    def detach_in_child(self) -> None:
        """Release the sockets in a forked child, because only the parent serves them.

        Otherwise clients would not notice when the parent closes a connection.
        """
        self._thread = None
        null = os.open(os.devnull, os.O_RDWR)
        for listener in self._listeners:
            for descriptor in listener.descriptors():
                # Reuse the number: Python objects that own it will close it later.
                with contextlib.suppress(OSError):
                    os.dup2(null, descriptor, inheritable=False)
        os.close(null)


def _after_fork() -> None:
    for thread in list(_live_threads):
        thread.detach_in_child()
    _live_threads.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
