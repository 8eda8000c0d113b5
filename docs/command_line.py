"""The command-line reference, generated from the argument parsers.

python docs/command_line.py
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from imds_identity.cli import COMMANDS, build_parser

if TYPE_CHECKING:
    from collections.abc import Iterator

_WIDTH = 88
_TITLE = """\
# Command line

This page has the same text as `imds-identity COMMAND --help`. Commands print tokens and other
results to standard output, and all messages to standard error: what failed, what was requested and
what to do. `-v` shows the rest. A wrong command, flag or value gets a suggestion.

| Exit status | Meaning |
|---|---|
| 0 | success |
| 1 | failure; for `doctor`: a check failed |
| 2 | wrong usage |
| 3 | there is no managed identity, or no metadata service, here |
| 4 | the service refused: unknown resource, access denied, no such element, invalid document |
| 130 | interrupted |

`exec` returns the exit status of its command.
"""


def reference() -> str:
    """Return the page in Markdown."""
    return "\n".join([_TITLE, *(_section(name) for name in COMMANDS)])


def _section(name: str) -> str:
    parser = parser_of(name)
    usage = parser.format_usage().removeprefix("usage: ").replace("\n" + " " * 7, "\n")
    text = parser.description or COMMANDS[name]
    text = _paragraph(f"{text[0].upper()}{text[1:].rstrip('.')}.")
    lines = [f"## {name}", text, f"```text\n{usage}```"]
    lines += [item for group in parser._action_groups for item in _items(parser, group)]
    if parser.epilog:
        lines.append(_paragraph(parser.epilog))
    return "\n\n".join(lines) + "\n"


def parser_of(name: str) -> argparse.ArgumentParser:
    """Return the parser of one command."""
    commands = next(
        action for action in build_parser([name])._actions if isinstance(action.choices, dict)
    )
    parser = commands.choices[name]  # type: ignore[index]
    assert isinstance(parser, argparse.ArgumentParser)
    parser.formatter_class = _HelpFormatter
    return parser


def _items(parser: argparse.ArgumentParser, group: argparse._ArgumentGroup) -> Iterator[str]:
    formatter = _HelpFormatter(parser.prog)
    for action in group._group_actions:
        if action.help == argparse.SUPPRESS or action.dest == "help":
            continue
        text = formatter._expand_help(action) if action.help else _choices(action)
        yield f"`{flags_of(action)}`\n:   {_escaped(text)}"


def _choices(action: argparse.Action) -> str:
    return f"one of: {', '.join(action.choices or ())}"


def flags_of(action: argparse.Action) -> str:
    """Return the flags of an argument and their values, as in the help."""
    return _HelpFormatter("")._format_action_invocation(action)


def _paragraph(text: str) -> str:
    """Return a paragraph; examples keep their line breaks."""
    return f"```text\n{text.strip()}\n```" if "\n" in text else _escaped(text)


def _escaped(text: str) -> str:
    """Escape Markdown."""
    return "".join(f"\\{letter}" if letter in "*_<>[]`" else letter for letter in text)


class _HelpFormatter(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_WIDTH)


if __name__ == "__main__":
    print(reference())
