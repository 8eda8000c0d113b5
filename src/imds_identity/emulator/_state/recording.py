"""Recordings: the failures of a session in a file, and the faults that repeat them.

Each request is one line of JSON, with the effects of a fault or of the rate limits on its response.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from typing import TYPE_CHECKING

from .fault import Fault

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from .request_log import RecordedRequest


class Recording:
    """Writes each request to a file; an existing file is overwritten."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = open(path, "w", encoding="utf-8")  # noqa: SIM115 - open until the emulator stops
        self._lock = threading.Lock()

    def add(self, record: RecordedRequest) -> None:
        line = {
            "category": record.category,
            "effects": effects_to_json(record.effects),
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
        with self._lock:
            self._file.close()


def effects_to_json(effects: Mapping[str, object]) -> dict[str, object]:
    """Return effects with text instead of bytes."""
    return {
        name: value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        for name, value in effects.items()
    }


def load_faults(path: str | os.PathLike[str]) -> list[Fault]:
    """Return faults that repeat the failures of a recorded session; ValueError names a bad line."""
    faults = []
    succeeded: Counter[tuple[str, str]] = Counter()
    with open(path, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            try:
                entry = json.loads(line)
                category, leg, effects = entry["category"], entry["leg"], entry["effects"]
                if not effects:
                    succeeded[category, leg] += 1
                    continue
                after = succeeded[category, leg]
                faults.append(Fault(category=category, leg=leg, after=after, times=1, **effects))
            except (ValueError, TypeError, LookupError) as error:
                raise ValueError(
                    f"replay: {path}, line {number} is not a recorded request: {error}"
                ) from None
    return faults
