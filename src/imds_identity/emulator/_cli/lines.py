"""Lines for a reader who may be slow, or gone."""

from __future__ import annotations

import os
import queue
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO

_MOST_WAITING = 10_000
_LAST_WORDS_SECONDS = 1.0


class Lines:
    """Writes lines from a thread of its own, so that a full pipe stops nobody else.

    Lines that find too many before them are dropped, and the reader is told how many.

    Args:
        stream: where they go; None, as for a closed standard error, is nowhere.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._waiting: queue.Queue[str | None] = queue.Queue(_MOST_WAITING)
        self._dropped = 0
        self._thread = threading.Thread(target=self._write_all, name="lines", daemon=True)
        self._thread.start()

    def add(self, line: str) -> None:
        """Write a line, soon; never waits."""
        try:
            self._waiting.put_nowait(line)
        except queue.Full:
            self._dropped += 1

    def close(self) -> None:
        """Write what is waiting, as far as the reader takes it within a second."""
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(_LAST_WORDS_SECONDS)

    def _write_all(self) -> None:
        while (line := self._waiting.get()) is not None:
            dropped, self._dropped = self._dropped, 0
            if dropped:
                line += f"\n({dropped} lines were dropped: nobody read them)"
            try:
                self._write(line + "\n")
            except (OSError, ValueError):  # the reader is gone, or the stream closed
                self._stream = None

    def _write(self, text: str) -> None:
        stream = self._stream
        if stream is None:
            return
        # Past the stream's buffer, whose lock a write that never ends would hold at exit.
        data = memoryview(text.encode("utf-8", "backslashreplace"))
        descriptor = stream.fileno()
        while data:
            data = data[os.write(descriptor, data) :]
