"""Quoting of arguments for Windows batch files, which cmd.exe parses instead of the program."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# _PERCENT needs command extensions. Without delayed expansion, ! is an ordinary character.
_SWITCHES = "/d /e:on /v:off /c"
# Expands to nothing, so that text between two percent signs is no longer a variable name.
_PERCENT = "%%cd:~,%"
_FORBIDDEN = re.compile(r"[\0\r\n]")
_PLAIN = re.compile(r"[A-Za-z0-9_.:/+@#\\-]*[A-Za-z0-9_.:/+@#-]")


def batch_command_line(shell: str, path: str, arguments: Sequence[str]) -> str:
    """Return the command line with which ``shell`` (cmd.exe) runs a batch file.

    Within quotes, cmd.exe takes &, |, <, > and ^ literally and reads two quotes as one, but it
    still expands variables between percent signs.
    """
    for each in (path, *arguments):
        if _FORBIDDEN.search(each):
            raise ValueError("an argument of a batch file cannot contain a line break or NUL")
    words = " ".join(_quoted(each) for each in (path, *arguments))
    return f'"{shell}" {_SWITCHES} "{words}"'


def _quoted(argument: str) -> str:
    if _PLAIN.fullmatch(argument):
        return argument  # some batch files compare %1 with a word, and quotes would break that
    # A program that parses %* by the C library's rules reads a backslash before a quote as escape.
    trailing = len(argument) - len(argument.rstrip("\\"))
    doubled = re.sub(r'(\\*)"', r'\1\1""', argument) + "\\" * trailing
    return '"' + doubled.replace("%", _PERCENT) + '"'
