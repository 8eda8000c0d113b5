"""Where the keys of a TOML file stand."""

from __future__ import annotations

import re

_HEADER = re.compile(r"\s*(\[\[?)\s*([^\]]+?)\s*\]")
_KEY = re.compile(r"""\s*["']?([A-Za-z0-9_-]+)["']?(?:\s*\.[^=]*)?\s*=""")


class Positions:
    """The line of each table and key, by names: tomllib tells of none.

    Headers and keys at the start of a line are all that it takes. The tables of an array are
    called ``name#0``, ``name#1`` and so on.

    Args:
        text: the file.
    """

    def __init__(self, text: str) -> None:
        self._lines: dict[tuple[str, str], int] = {}
        self._counts: dict[str, int] = {}
        table = ""
        for number, line in enumerate(text.splitlines(), start=1):
            header, key = _HEADER.match(line), _KEY.match(line)
            if header is not None:
                table = self._enter(header.group(2).replace(" ", ""), header.group(1), number)
            elif key is not None:
                self._lines.setdefault((table, key.group(1)), number)

    def _enter(self, table: str, bracket: str, number: int) -> str:
        if bracket == "[[":
            self._counts[table] = self._counts.get(table, -1) + 1
            table = f"{table}#{self._counts[table]}"
        parent, _, last = table.rpartition(".")
        for place in ((table, ""), (parent, last), ("", table.partition("#")[0])):
            self._lines.setdefault(place, number)
        return table

    def line(self, table: str, name: str) -> int:
        """The line of a key, else of its table, else of what holds that, else the first."""
        parent, _, last = table.rpartition(".")
        places = ((table, name), (table, ""), (parent, last), (parent, ""))
        return next((self._lines[place] for place in places if place in self._lines), 1)

    def mentioned(self, table: str, message: str) -> str:
        """The key of a table that a message speaks of; empty if it speaks of none."""
        words = set(re.findall(r"\w+", message))
        return next((name for at, name in self._lines if at == table and name in words), "")
