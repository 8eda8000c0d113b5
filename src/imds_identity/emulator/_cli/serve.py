"""Serving until a signal, and the lines that the command prints."""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from typing import TYPE_CHECKING

from .._machine.identities import SystemAssigned
from .._services.attested import ROOT_PATH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .._emulator import Emulator
    from .._machine.identities import Identity
    from .._state.request_log import RecordedRequest


def startup_lines(emulator: Emulator) -> list[str]:
    """Return the lines to print when an emulator has started."""
    lines = [_describe_identity(identity) for identity in emulator.identities]
    lines.append(f"Keys to verify tokens: {emulator.jwks_url}")
    if emulator.profile == "vm":
        lines.append(f"Root certificate of attested documents: {emulator.endpoint}{ROOT_PATH}")
    if emulator.tokens_directory is not None:
        lines.append(f"Arc key files: {emulator.tokens_directory}")
    if emulator.admin_url is not None:
        lines.append(f"Admin page: {emulator.admin_url}/")
    lines.append(f"Serving {emulator.profile} on {emulator.endpoint}; press Ctrl-C to stop.")
    return lines


def _describe_identity(identity: Identity) -> str:
    ids = f"client_id {identity.client_id}, object_id {identity.object_id}"
    if isinstance(identity, SystemAssigned):
        return f"System-assigned identity: {ids}"
    name = identity.resource_id.rpartition("/")[2]
    return f"User-assigned identity {name}: {ids}, resource id {identity.resource_id}"


def serve(
    emulator: Emulator,
    *,
    started: Callable[[Emulator], None] | None = None,
    requested: Callable[[RecordedRequest], None] | None = None,
) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP, then stop. Must be called on the main thread.

    Args:
        emulator: the emulator, not yet started.
        started: called when it has started to serve.
        requested: called with each request, on the serving thread.
    """
    if requested is not None:
        emulator.on_request(requested)
    with _stop_signal() as received, emulator:
        if started is not None:
            started(emulator)
        received.recv(1)


@contextlib.contextmanager
def _stop_signal() -> Iterator[socket.socket]:
    """Yield a socket that becomes readable when a signal arrives.

    Python's own signal handlers run only when the main thread executes Python code. A main thread
    that waits for a lock, or a signal that another thread receives, would delay them.
    """
    signals = [signal.SIGINT, signal.SIGTERM]
    hang_up = getattr(signal, "SIGHUP", None)  # Windows has none
    # nohup ignores the signal, so that the emulator keeps running without its terminal.
    if hang_up is not None and signal.getsignal(hang_up) is not signal.SIG_IGN:
        signals.append(hang_up)
    reader, writer = socket.socketpair()
    with reader, writer:
        writer.setblocking(False)
        wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        before = [signal.signal(number, lambda *_: None) for number in signals]
        try:
            yield reader
        finally:
            for number, handler in zip(signals, before, strict=True):
                signal.signal(number, handler)
            signal.set_wakeup_fd(wakeup)


def request_line(record: RecordedRequest) -> str:
    """Return the log line of a request, without control characters."""
    timestamp = time.strftime("%H:%M:%S", time.gmtime(record.time))
    status = record.status or "---"
    note = f"  [{record.note}]" if record.note else ""
    target = record.target.encode("ascii", "backslashreplace").decode()
    return f"{timestamp} {status} {record.method} {target}{note}"
