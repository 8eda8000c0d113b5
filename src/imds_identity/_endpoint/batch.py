"""How arguments are handed to a batch file, which cmd.exe reads and not the program itself."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# Extensions are on for the next; delayed expansion is off, so that ! is a letter like others.
_SWITCHES = "/d /e:on /v:off /c"
# Expands to nothing: what stands between two percent signs is no variable's name any more.
_PERCENT = "%%cd:~,%"
_NEVER = re.compile(r"[\0\r\n]")
_PLAIN = re.compile(r"[A-Za-z0-9_.:/+@#\\-]*[A-Za-z0-9_.:/+@#-]")


def batch_line(shell: str, path: str, arguments: Sequence[str]) -> str:
    """The command line by which ``shell`` runs a batch file.

    cmd.exe knows no way to quote that programs share: within quotes &, |, <, > and ^ are letters,
    two quotes are one, and a percent sign still begins a variable.

    Args:
        shell: the path of cmd.exe.
        path: of the batch file.
        arguments: of it.

    Raises:
        ValueError: for an argument with the end of a line, which would be a command of its own.
    """
    for each in (path, *arguments):
        if _NEVER.search(each):
            raise ValueError("an argument of a batch file cannot have the end of a line in it")
    words = " ".join(_quoted(each) for each in (path, *arguments))
    return f'"{shell}" {_SWITCHES} "{words}"'


def _quoted(argument: str) -> str:
    if _PLAIN.fullmatch(argument):
        return argument  # some batch files compare %1 with a word, which quotes would hide
    # What reads %* by the C library's rules takes a backslash before a quote for its own.
    trailing = len(argument) - len(argument.rstrip("\\"))
    doubled = re.sub(r'(\\*)"', r'\1\1""', argument) + "\\" * trailing
    return '"' + doubled.replace("%", _PERCENT) + '"'
