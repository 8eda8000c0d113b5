"""The events of all processes of a soak: lines of one file, each written by one system call.

Unlike a pipe, a file accepts lines while its reader is stopped or killed.
"""

from __future__ import annotations

import json
import os
import re
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections import Counter

_TOKEN = re.compile(r"eyJ[\w-]{8,}[\w.-]*")
_MAX_DETAIL = 6000


def contains_token(text: str) -> bool:
    """Return whether ``text`` contains something that looks like a token."""
    return _TOKEN.search(text) is not None


def format_error(error: BaseException) -> str:
    """Return ``error`` with its traceback, with tokens replaced."""
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return _TOKEN.sub("<token>", text)[-_MAX_DETAIL:]


class EventLog:
    """Appends events to the file at ``path``."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def write(self, kind: str, **fields: Any) -> None:
        line = json.dumps({"kind": kind, "pid": os.getpid(), **fields}) + "\n"
        os.write(self._file, line.encode())

    def write_counts(self, counts: Counter[str], longest: float = 0.0) -> None:
        self.write("counts", counts=dict(counts), longest=longest)

    def write_violation(self, rule: str, detail: str) -> None:
        """Record that the package broke ``rule``."""
        self.write("violation", rule=rule, detail=_TOKEN.sub("<token>", detail)[-_MAX_DETAIL:])


class Reader:
    """Reads the events that were added since the last call."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._position = 0

    def events(self) -> list[dict[str, Any]]:
        with open(self._path, "rb") as file:
            file.seek(self._position)
            data = file.read()
        complete = data[: data.rfind(b"\n") + 1]
        self._position += len(complete)
        return [json.loads(line) for line in complete.splitlines()]
