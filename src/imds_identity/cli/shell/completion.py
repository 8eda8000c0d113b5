"""``imds-identity completion``: the words that a shell offers at a Tab."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from .candidates import awaited, choices_of
from .scripts import SCRIPTS, lines, words_of

if TYPE_CHECKING:
    import argparse

    from .candidates import Awaited, Candidate

_EPILOG = """\
bash:  imds-identity completion bash > ~/.local/share/bash-completion/completions/imds-identity
zsh:   imds-identity completion zsh > "${fpath[1]}/_imds-identity"
fish:  imds-identity completion fish > ~/.config/fish/completions/imds-identity.fish
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's arguments to its parser."""
    from argparse import REMAINDER, SUPPRESS

    parser.usage = "imds-identity completion SHELL"
    parser.description = (
        "Prints a script by which a shell (bash 4 or newer, zsh or fish) completes this program's "
        "commands, flags and their values, among them identities and resources that have a token "
        "on this machine."
    )
    parser.epilog = _EPILOG
    parser.add_argument(
        "shell", choices=tuple(SCRIPTS), metavar="SHELL", help="one of: %(choices)s"
    )
    parser.add_argument("words", nargs=REMAINDER, help=SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """Print the script, or the candidates for the last word; the exit status."""
    given = args.words[1:] if args.words[:1] == ["--"] else args.words
    if not given:
        sys.stdout.write(SCRIPTS[args.shell])
        return 0
    words = words_of(args.shell, given) or [""]
    what = awaited(args.parser_of(words[:1]), words)
    found = [what.own] if what.own else lines(args.shell, _candidates(what), given, words[-1])
    sys.stdout.writelines(f"{line}\n" for line in found)
    return 0


def _candidates(what: Awaited) -> list[Candidate]:
    """What begins as the last word does; flags where nothing else may stand there."""
    from .known import known

    action = what.action
    values = (choices_of(action) or known(action.dest)) if action else []
    fit = [each for each in values or what.flags if each.word.startswith(what.value)]
    return [each._replace(word=what.prefix + each.word) for each in fit]
