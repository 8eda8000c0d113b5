"""The reference of the command line, as its own parsers tell it.

python docs/command_line.py
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from imds_identity.cli import _COMMANDS, _parser

if TYPE_CHECKING:
    from collections.abc import Iterator

_WIDTH = 88
_TITLE = """\
# Command line

Every command has `--help`, which this page is made of. Tokens and other answers go to standard
output, everything else to standard error. The exit status is 0, 1 for an error or 2 for wrong
usage, unless the command says otherwise.
"""


def reference() -> str:
    """The whole page, in Markdown."""
    return "\n".join([_TITLE, *(_section(name) for name in _COMMANDS)])


def _section(name: str) -> str:
    parser = parser_of(name)
    usage = parser.format_usage().removeprefix("usage: ").replace("\n" + " " * 7, "\n")
    said = parser.description or _COMMANDS[name].help
    said = _prose(f"{said[0].upper()}{said[1:].rstrip('.')}.")
    lines = [f"## {name}", said, f"```text\n{usage}```"]
    lines += [text for group in parser._action_groups for text in _group(parser, group)]
    if parser.epilog:
        lines.append(_prose(parser.epilog))
    return "\n\n".join(lines) + "\n"


def parser_of(name: str) -> argparse.ArgumentParser:
    """The parser of one command."""
    commands = next(
        action for action in _parser([name])._actions if isinstance(action.choices, dict)
    )
    parser = commands.choices[name]  # type: ignore[index]
    assert isinstance(parser, argparse.ArgumentParser)
    parser.formatter_class = _Formatter
    return parser


def _group(parser: argparse.ArgumentParser, group: argparse._ArgumentGroup) -> Iterator[str]:
    formatter = _Formatter(parser.prog)
    for action in group._group_actions:
        if action.help == argparse.SUPPRESS or action.dest == "help":
            continue
        said = formatter._expand_help(action) if action.help else _one_of(action)
        yield f"`{flags_of(action)}`\n:   {_escaped(said)}"


def _one_of(action: argparse.Action) -> str:
    return f"one of: {', '.join(action.choices or ())}"


def flags_of(action: argparse.Action) -> str:
    """The flags of one argument, and what they take."""
    return _Formatter("")._format_action_invocation(action)


def _prose(said: str) -> str:
    """A paragraph; lines of commands stay lines."""
    return f"```text\n{said.strip()}\n```" if "\n" in said else _escaped(said)


def _escaped(said: str) -> str:
    """Nothing in a help's text is Markdown."""
    return "".join(f"\\{letter}" if letter in "*_<>[]`" else letter for letter in said)


class _Formatter(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_WIDTH)


if __name__ == "__main__":
    print(reference())
