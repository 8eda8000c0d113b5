"""What may stand where a command line ends, as its parser says.

argparse keeps what a parser takes in private attributes, which the completers for it all read.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FILES, DIRECTORIES, COMMANDS = ":files", ":directories", ":commands"
"""In place of words: the shell knows these better."""

_BY_METAVAR = {"FILE": FILES, "SOCKET": FILES, "DIRECTORY": DIRECTORIES, "DIR": DIRECTORIES}
_ONE_WORD = (None, argparse.OPTIONAL)


class Candidate(NamedTuple):
    """A word, and what it means."""

    word: str
    meaning: str


class Awaited(NamedTuple):
    """What the last word of a command line may be.

    Attributes:
        action: whose value it is; None where no value may stand.
        own: what the shell is to look up itself; None if that is not its matter.
        flags: which may stand here.
        prefix: of the word, and no part of the value: the flag of ``--flag=value``.
        value: what is there of the value.
    """

    action: argparse.Action | None
    own: str | None
    flags: list[Candidate]
    prefix: str
    value: str


def choices_of(action: argparse.Action) -> list[Candidate]:
    """The values that the parser names; subcommands have a meaning."""
    if isinstance(action, argparse._SubParsersAction):
        return [Candidate(each.dest, each.help or "") for each in action._choices_actions]
    return [Candidate(str(choice), "") for choice in action.choices or ()]


def awaited(parser: argparse.ArgumentParser, words: list[str]) -> Awaited:
    """What may stand in place of the last of ``words``, of which the others are complete.

    Args:
        parser: of the command whose arguments the words are.
        words: at least one.
    """
    *before, last = words
    reading = _Reading(parser)
    for word in before:
        reading = reading.after(word)
    return reading.awaited(last)


class _Reading:
    """How far a parser is on a command line, whose words are taken for right."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._parser = parser
        self._positionals = [each for each in parser._actions if not each.option_strings]
        self._given: list[argparse.Action] = []
        self._flag: argparse.Action | None = None  # whose value comes next
        self._only_words = False

    def after(self, word: str) -> _Reading:
        """The same a word later, or a subcommand's."""
        if self._flag is not None and not (
            self._flag.nargs == argparse.OPTIONAL and self._is_flag(word)
        ):
            self._flag = None
        elif word == "--" and not self._only_words:
            self._only_words = True
        elif self._is_flag(word):
            self._take_flag(word)
        else:
            return self._after_positional(word)
        return self

    def awaited(self, word: str) -> Awaited:
        name, equals, value = word.partition("=")
        flag = self._parser._option_string_actions.get(name)
        if equals and flag and self._is_flag(word):
            return self._value(flag, [], f"{name}=", value)
        if self._flag is not None and self._flag.nargs is None:
            return self._value(self._flag, [], "", word)
        flags = [] if self._only_words else list(self._flags())
        action = None if self._is_flag(word) else self._flag or self._positional()
        return self._value(action, flags, "", word)

    def _value(
        self, action: argparse.Action | None, flags: list[Candidate], prefix: str, value: str
    ) -> Awaited:
        own = _BY_METAVAR.get(str(action.metavar)) if action else None
        if action is not None and action.nargs == argparse.REMAINDER:
            own = FILES if action in self._given else COMMANDS
        return Awaited(action, own, flags, prefix, value)

    def _is_flag(self, word: str) -> bool:
        return word.startswith("-") and not self._only_words

    def _take_flag(self, word: str) -> None:
        name, equals, _ = word.partition("=")
        action = self._parser._option_string_actions.get(name)
        if action is not None:
            self._given.append(action)
            self._flag = None if equals or action.nargs == 0 else action

    def _after_positional(self, word: str) -> _Reading:
        action = self._positional()
        if isinstance(action, argparse._SubParsersAction):
            parser = action.choices.get(word)
            return _Reading(parser) if parser else self
        if action is not None:
            self._given.append(action)
            self._only_words |= action.nargs == argparse.REMAINDER
            if action.nargs in _ONE_WORD:
                self._positionals.remove(action)
        return self

    def _positional(self) -> argparse.Action | None:
        """That which takes the next word."""
        excluded = self._excluded()
        return next((each for each in self._positionals if each not in excluded), None)

    def _flags(self) -> Iterator[Candidate]:
        excluded = self._excluded()
        for action in self._parser._actions:
            is_again = action in self._given and not isinstance(action, argparse._AppendAction)
            if action not in excluded and not is_again and action.help != argparse.SUPPRESS:
                yield from _named(action, self._parser)

    def _excluded(self) -> set[argparse.Action]:
        """What does not go with what is given."""
        return {
            other
            for group in self._parser._mutually_exclusive_groups
            for given in self._given
            if given in group._group_actions
            for other in group._group_actions
            if other is not given
        }


def _named(action: argparse.Action, parser: argparse.ArgumentParser) -> Iterable[Candidate]:
    """The long names of a flag; the short one where there is no other."""
    names = [name for name in action.option_strings if name.startswith("--")]
    meaning = parser._get_formatter()._expand_help(action) if action.help else ""
    return (Candidate(name, meaning) for name in names or action.option_strings)
