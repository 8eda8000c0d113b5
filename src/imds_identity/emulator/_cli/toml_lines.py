"""The line numbers of the keys of a TOML file."""

from __future__ import annotations

import re

_HEADER = re.compile(r"\s*(\[\[?)\s*([^\]]+?)\s*\]")
_KEY = re.compile(r"""\s*["']?([A-Za-z0-9_-]+)["']?(?:\s*\.[^=]*)?\s*=""")


class TomlLines:
    """The line numbers of tables and keys, which tomllib does not report.

    It recognizes only headers and keys at the start of a line. The tables of an array are called
    ``name#0``, ``name#1`` and so on.
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
        for key in ((table, ""), (parent, last), ("", table.partition("#")[0])):
            self._lines.setdefault(key, number)
        return table

    def line(self, table: str, name: str) -> int:
        """Return the line of a key, else of its table, else of the parent table, else 1."""
        parent, _, last = table.rpartition(".")
        keys = ((table, name), (table, ""), (parent, last), (parent, ""))
        return next((self._lines[key] for key in keys if key in self._lines), 1)

    def mentioned(self, table: str, message: str) -> str:
        """Return the key of a table that a message mentions, or an empty string."""
        words = set(re.findall(r"\w+", message))
        return next((name for own, name in self._lines if own == table and name in words), "")
