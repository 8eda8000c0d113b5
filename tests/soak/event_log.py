"""What the processes of a soak have to say: lines of one file, each written at once.

A file takes a line whoever is stopped or killed; a pipe would not.
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
_LONGEST = 6000


def shows_token(text: str) -> bool:
    """Whether something that looks like a token is in ``text``."""
    return _TOKEN.search(text) is not None


def told(error: BaseException) -> str:
    """``error`` with its traceback, and with no token in it."""
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return _TOKEN.sub("<token>", text)[-_LONGEST:]


class EventLog:
    """Writes lines.

    Args:
        path: the file that all write to.
    """

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def write(self, kind: str, **facts: Any) -> None:
        line = json.dumps({"kind": kind, "pid": os.getpid(), **facts}) + "\n"
        os.write(self._file, line.encode())

    def counts(self, counts: Counter[str], longest: float = 0.0, role: str = "") -> None:
        self.write("counts", counts=dict(counts), longest=longest, role=role)

    def broken(self, rule: str, detail: str) -> None:
        """A rule was broken that never may be."""
        self.write("broken", rule=rule, detail=_TOKEN.sub("<token>", detail)[-_LONGEST:])


class Reader:
    """Reads what has been written since it last read."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._position = 0

    def lines(self) -> list[dict[str, Any]]:
        with open(self._path, "rb") as file:
            file.seek(self._position)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._position += len(whole)
        return [json.loads(line) for line in whole.splitlines()]
