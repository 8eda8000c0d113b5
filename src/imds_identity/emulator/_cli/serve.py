"""The emulator as a program: serves until a signal, and says what clients must export."""

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
    from .._state.records import RecordedRequest


def introduction(emulator: Emulator) -> list[str]:
    """What a person wants to know of an emulator that has just begun to serve."""
    lines = [_identity_line(identity) for identity in emulator.identities]
    lines.append(f"To verify tokens: {emulator.jwks_url}")
    if emulator.profile == "vm":
        lines.append(f"The root of attested documents: {emulator.endpoint}{ROOT_PATH}")
    if emulator.tokens_directory is not None:
        lines.append(f"Arc's key files: {emulator.tokens_directory}")
    if emulator.admin_url is not None:
        lines.append(f"The page is at {emulator.admin_url}/")
    lines.append(f"Serving {emulator.profile} on {emulator.endpoint}; Ctrl-C stops it.")
    return lines


def _identity_line(identity: Identity) -> str:
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
    """Serve until SIGINT, SIGTERM or SIGHUP, then stop cleanly. To be called on the main thread.

    Args:
        emulator: what to serve; not yet started.
        started: called once it serves.
        requested: called with each request, on the serving thread.
    """
    if requested is not None:
        emulator.on_request(requested)
    with _end_signal() as end, emulator:
        if started is not None:
            started(emulator)
        end.recv(1)


@contextlib.contextmanager
def _end_signal() -> Iterator[socket.socket]:
    """A socket that has something to read once a signal has come.

    Python's own handlers run in the main thread when it next runs Python. One that is about to
    wait for a lock, or whose signal reached another thread, would not do so until the next signal.
    """
    kinds = [signal.SIGINT, signal.SIGTERM]
    hang_up = getattr(signal, "SIGHUP", None)  # Windows has none
    # Under nohup it is ignored, and stays so: the terminal may go, the emulator stays.
    if hang_up is not None and signal.getsignal(hang_up) is not signal.SIG_IGN:
        kinds.append(hang_up)
    reader, writer = socket.socketpair()
    with reader, writer:
        writer.setblocking(False)
        wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        before = [signal.signal(kind, lambda *_: None) for kind in kinds]
        try:
            yield reader
        finally:
            for kind, handler in zip(kinds, before, strict=True):
                signal.signal(kind, handler)
            signal.set_wakeup_fd(wakeup)


def request_line(record: RecordedRequest) -> str:
    """One line about a request, printable whatever the client sent."""
    moment = time.strftime("%H:%M:%S", time.gmtime(record.time))
    status = record.status or "---"
    note = f"  [{record.note}]" if record.note else ""
    target = record.target.encode("ascii", "backslashreplace").decode()
    return f"{moment} {status} {record.method} {target}{note}"
