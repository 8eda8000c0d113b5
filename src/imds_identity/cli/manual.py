"""``imds-identity manual``: a manual page of all commands, as man(7) has it."""

from __future__ import annotations

import argparse
import sys
import textwrap
from typing import TYPE_CHECKING

from .._version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME = "imds-identity"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's arguments, of which there are none."""
    parser.description = (
        "Prints this program's manual page for man, made of what --help says of each command."
    )
    parser.epilog = """\
imds-identity manual | man -l -
imds-identity manual > ~/.local/share/man/man1/imds-identity.1
"""


def run(args: argparse.Namespace) -> int:
    """Print the page; the exit status."""
    top = args.parser_of([])
    [commands] = [each for each in top._actions if isinstance(each, argparse._SubParsersAction)]
    sys.stdout.write(f'.TH IMDS-IDENTITY 1 "" "{_NAME} {__version__}"\n')
    sys.stdout.writelines(_section("NAME", [f"{_NAME} \\- {_plain(_lower(top.description))}"]))
    sys.stdout.writelines(_section("SYNOPSIS", [f".B {_NAME}", ".I COMMAND", "[FLAGS]"]))
    sys.stdout.writelines(_section("COMMANDS", []))
    for command in commands._choices_actions:
        full = args.parser_of([command.dest])
        [made] = [each for each in full._actions if isinstance(each, argparse._SubParsersAction)]
        sys.stdout.writelines(_command(command.dest, made.choices[command.dest]))
    return 0


def _command(name: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    yield f".SS {_NAME} {_plain(name)}\n"
    yield from _lines(parser.description or "")
    yield from _as_it_is(parser.format_usage().removeprefix("usage: "))
    formatter = parser._get_formatter()
    for action in parser._actions:
        if action.help and action.help != argparse.SUPPRESS and action.dest != "help":
            yield f".TP\n.B {_plain(formatter._format_action_invocation(action))}\n"
            yield from _lines(formatter._expand_help(action))
    if parser.epilog:
        yield from _as_it_is(parser.epilog) if "\n" in parser.epilog else _lines(parser.epilog)


def _as_it_is(text: str) -> Iterator[str]:
    yield ".PP\n.nf\n"
    yield from _lines(textwrap.dedent(text))
    yield ".fi\n"


def _section(title: str, lines: list[str]) -> Iterator[str]:
    yield f".SH {title}\n"
    yield from (f"{line}\n" for line in lines)


def _lines(text: str) -> Iterator[str]:
    for line in text.strip("\n").split("\n"):
        plain = _plain(line)
        yield (f"\\&{plain}" if plain[:1] in (".", "'") else plain) + "\n"


def _plain(text: str) -> str:
    """``text`` that is no command to man; a hyphen stays one that can be copied."""
    return text.replace("\\", "\\e").replace("-", "\\-")


def _lower(text: str | None) -> str:
    said = (text or "").rstrip(".")
    return said[:1].lower() + said[1:]
