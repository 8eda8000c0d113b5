"""``imds-identity completion``: what shells offer at a Tab, which is argcomplete's work."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from .._platform.environment import Environment
from .._platform.extras import not_installed
from .output import complain

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

_PROGRAM = "imds-identity"
# argcomplete takes all that stands on zsh's line for one command: zsh knows which words are ours.
_ZSH_WORDS = {
    '"$BUFFER"': '"${(j: :)words[1,CURRENT]}"',
    '"$CURSOR"': '"${#${(j: :)words[1,CURRENT]}}"',
}
_EPILOG = """\
bash:  imds-identity completion bash > ~/.local/share/bash-completion/completions/imds-identity
zsh:   imds-identity completion zsh > "${fpath[1]}/_imds-identity"
fish:  imds-identity completion fish > ~/.config/fish/completions/imds-identity.fish
pwsh:  imds-identity completion powershell >> $PROFILE
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's arguments to its parser."""
    parser.description = (
        "Prints a script by which a shell completes this program's commands, flags and their "
        "values, among them identities and resources that have a token on this machine. It needs "
        "argcomplete, which the extra completion installs."
    )
    parser.epilog = _EPILOG
    parser.add_argument(
        "shell",
        choices=("bash", "zsh", "fish", "powershell"),
        metavar="SHELL",
        help="one of: %(choices)s",
    )


def run(args: argparse.Namespace) -> int:
    """Print the script; the exit status."""
    try:
        from argcomplete.shell_integration import shellcode
    except ModuleNotFoundError:
        return complain(not_installed("argcomplete", "completion", "completion in a shell"))
    # A value of which nothing is known is no file's name either: bash is to offer none.
    script = shellcode([_PROGRAM], use_defaults=False, shell=args.shell)
    if args.shell == "zsh":
        for whole, ours in _ZSH_WORDS.items():
            script = script.replace(whole, ours)
    sys.stdout.write(script)
    return 0


def offer(parser_of: Callable[[list[str]], argparse.ArgumentParser]) -> None:
    """Answer the shell, and end this process.

    Args:
        parser_of: the parser for a command line, of which it is given the beginning.
    """
    from argcomplete.completers import SuppressCompleter
    from argcomplete.finders import ExclusiveCompletionFinder
    from argcomplete.lexers import split_line

    from .completers import tell_values

    environment = Environment()
    words = split_line(environment["COMP_LINE"], int(environment["COMP_POINT"]))[3]
    parser = parser_of(words[int(environment["_ARGCOMPLETE"]) :])
    tell_values(parser)
    ExclusiveCompletionFinder()(
        parser,
        always_complete_options="long",
        default_completer=SuppressCompleter(),
        exit_method=sys.exit,
    )
