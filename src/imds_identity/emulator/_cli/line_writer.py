"""A writer of log lines that does not block when its reader is slow or gone."""

from __future__ import annotations

import os
import queue
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO

_MAX_WAITING = 10_000
_CLOSE_SECONDS = 1.0


class LineWriter:
    """Writes lines from a background thread; drops lines when too many are waiting."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._waiting: queue.Queue[str | None] = queue.Queue(_MAX_WAITING)
        self._dropped = 0
        self._thread = threading.Thread(target=self._write_all, name="line-writer", daemon=True)
        self._thread.start()

    def add(self, line: str) -> None:
        """Write a line in the background; never blocks."""
        try:
            self._waiting.put_nowait(line)
        except queue.Full:
            self._dropped += 1

    def close(self) -> None:
        """Write the waiting lines, for at most a second."""
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(_CLOSE_SECONDS)

    def _write_all(self) -> None:
        while (line := self._waiting.get()) is not None:
            dropped, self._dropped = self._dropped, 0
            if dropped:
                line += f"\n({dropped} lines were dropped because the output was not read)"
            try:
                self._write(line + "\n")
            except (OSError, ValueError):  # the reader is gone, or the stream is closed
                self._stream = None

    def _write(self, text: str) -> None:
        stream = self._stream
        if stream is None:
            return
        # Bypass the stream's buffer: a write that never ends would hold its lock at exit.
        data = memoryview(text.encode("utf-8", "backslashreplace"))
        descriptor = stream.fileno()
        while data:
            data = data[os.write(descriptor, data) :]
