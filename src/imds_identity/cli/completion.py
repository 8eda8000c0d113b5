"""``imds-identity completion``: print a shell completion script, made by argcomplete."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from .._platform.environment import Environment
from .._platform.imports import not_installed
from .output import print_error

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

_PROGRAM = "imds-identity"
# argcomplete reads the whole line of zsh as one command. zsh knows which words belong to it.
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
    """Add this command's arguments."""
    parser.description = (
        "Prints a script that lets a shell complete this program's commands, flags and values, "
        "including identities and resources with a token in the shared token cache. It requires "
        "argcomplete: pip install 'imds-identity[completion]'."
    )
    parser.epilog = _EPILOG
    parser.add_argument(
        "shell",
        choices=("bash", "zsh", "fish", "powershell"),
        metavar="SHELL",
        help="one of: %(choices)s",
    )


def run(args: argparse.Namespace) -> int:
    """Print the script; return the exit status."""
    try:
        from argcomplete.shell_integration import shellcode
    except ModuleNotFoundError:
        return print_error(not_installed("argcomplete", "completion", "completion in a shell"))
    # An unknown value is not a file name: bash must not offer files for it.
    script = shellcode([_PROGRAM], use_defaults=False, shell=args.shell)
    if args.shell == "zsh":
        for whole_line, own_words in _ZSH_WORDS.items():
            script = script.replace(whole_line, own_words)
    sys.stdout.write(script)
    return 0


def complete(build_parser: Callable[[list[str]], argparse.ArgumentParser]) -> None:
    """Print completions for the shell and exit; ``build_parser`` takes the words so far."""
    from argcomplete.completers import SuppressCompleter
    from argcomplete.finders import ExclusiveCompletionFinder
    from argcomplete.lexers import split_line

    from .completers import add_completers

    environment = Environment()
    words = split_line(environment["COMP_LINE"], int(environment["COMP_POINT"]))[3]
    parser = build_parser(words[int(environment["_ARGCOMPLETE"]) :])
    add_completers(parser)
    ExclusiveCompletionFinder()(
        parser,
        always_complete_options="long",
        default_completer=SuppressCompleter(),
        exit_method=sys.exit,
    )
