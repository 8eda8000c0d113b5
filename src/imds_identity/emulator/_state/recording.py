"""What went wrong in a session, kept in a file, and the faults that make it go wrong again.

Each request is one line of JSON, with what a fault or the limits did to its answer.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

from .fault import Fault

if TYPE_CHECKING:
    import os

    from .records import RecordedRequest


class Recording:
    """Writes each request to a file as it is answered.

    Args:
        path: the file; it is written anew.

    Raises:
        OSError: if it cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = open(path, "w", encoding="utf-8")  # noqa: SIM115 - open until the emulator stops
        self._lock = threading.Lock()

    def add(self, record: RecordedRequest) -> None:
        """Write a request."""
        line = {
            "category": record.category,
            "effects": {name: _plain(value) for name, value in record.effects.items()},
            "leg": record.leg,
            "method": record.method,
            "status": record.status,
            "target": record.target,
        }
        with self._lock:
            if not self._file.closed:
                self._file.write(json.dumps(line) + "\n")
                self._file.flush()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._file.close()


def _plain(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def replayed(path: str | os.PathLike[str]) -> list[Fault]:
    """The faults that spoil the requests that were spoiled in a recorded session.

    The third token request of the recording that failed lets the third one fail again, however
    much time lies between.

    Args:
        path: the file that a recording wrote.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is no recording; the message names the line.
    """
    faults = []
    passed: Counter[tuple[str, str]] = Counter()
    with open(path, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            try:
                entry = json.loads(line)
                category, leg, effects = entry["category"], entry["leg"], entry["effects"]
                if not effects:
                    passed[category, leg] += 1
                    continue
                after = passed[category, leg]
                faults.append(Fault(category=category, leg=leg, after=after, times=1, **effects))
            except (ValueError, TypeError, LookupError) as error:
                raise ValueError(
                    f"replay: {path}, line {number} is no recorded request: {error}"
                ) from None
    return faults
