"""What a shell evaluates, so that it asks this program at each Tab, and how it is answered.

Each function asks `imds-identity completion SHELL -- WORD ...`. The answer has a line for each
candidate, or one line that says what the shell is to look up itself.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from .candidates import COMMANDS, DIRECTORIES, FILES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .candidates import Candidate

_BASH = f"""\
_imds_identity() {{
    local answer
    # Bash cuts words at : and =, too: the program gets the line, and what bash will replace.
    mapfile -t answer < <("$1" completion bash -- "${{COMP_LINE:0:COMP_POINT}}" "$2" 2>/dev/null)
    case "${{answer[0]}}" in
        {FILES}) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$2") ;;
        {DIRECTORIES}) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "$2") ;;
        {COMMANDS}) mapfile -t COMPREPLY < <(compgen -c -- "$2") ;;
        *) COMPREPLY=("${{answer[@]}}") ;;
    esac
}}
complete -F _imds_identity imds-identity
"""

_ZSH = f"""\
#compdef imds-identity
_imds_identity() {{
    local -a answer
    answer=("${{(@f)$("$words[1]" completion zsh -- "${{(@Q)words[2,CURRENT]}}" 2>/dev/null)}}")
    case "$answer[1]" in
        {FILES}) _files ;;
        {DIRECTORIES}) _files -/ ;;
        {COMMANDS}) _command_names -e ;;
        ?*) _describe -V imds-identity answer ;;
    esac
}}
if [ "$funcstack[1]" = _imds-identity ]; then
    _imds_identity "$@"
else
    compdef _imds_identity imds-identity
fi
"""

_FISH = f"""\
function __imds_identity_candidates
    set -l words (commandline -opc) "$(commandline -ct)"
    set -l answer ($words[1] completion fish -- $words[2..-1] 2>/dev/null)
    switch "$answer[1]"
        case {FILES}
            __fish_complete_path $words[-1]
        case {DIRECTORIES}
            __fish_complete_directories $words[-1]
        case {COMMANDS}
            complete -C "$words[-1]"
        case '*'
            printf '%s\\n' $answer
    end
end
complete -c imds-identity -f -a '(__imds_identity_candidates)'
"""

SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def words_of(shell: str, given: list[str]) -> list[str]:
    """The words after the program's name, of which the last is to be completed.

    Args:
        shell: that asks.
        given: what its script hands over.
    """
    return _split(given[0])[1:] if shell == "bash" else given


def lines(
    shell: str, candidates: Iterable[Candidate], given: list[str], word: str
) -> Iterable[str]:
    """The candidates as the shell takes them.

    Args:
        shell: that asks.
        candidates: for the whole of ``word``.
        given: what its script has handed over.
        word: the last of the line.
    """
    if shell == "bash":
        cut = len(word.removesuffix(given[1])) if len(given) > 1 else 0
        return [each.word[cut:] for each in candidates]
    if shell == "zsh":
        colon = r"\:"
        return [f"{each.word.replace(':', colon)}:{_short(each.meaning)}" for each in candidates]
    return [f"{each.word}\t{_short(each.meaning)}" for each in candidates]


def _split(line: str) -> list[str]:
    """The words of a line that may end within quotes."""
    for ending in ("", "'", '"'):
        try:
            words = shlex.split(line + ending)
        except ValueError:
            continue
        is_between = not ending and line[-1:].isspace()
        return [*words, ""] if is_between else words
    return ["", ""]


def _short(meaning: str) -> str:
    """What a line beside a word has room for."""
    return " ".join(meaning.split())
