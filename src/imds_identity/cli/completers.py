"""Values that can be told of arguments, as argcomplete asks for them; never a token or a secret."""

from __future__ import annotations

import argparse
import os
import re
from typing import TYPE_CHECKING, Any

from argcomplete.completers import DirectoriesCompleter, FilesCompleter

from .._platform.environment import for_child
from .._shared_cache.location import shared_cache_for
from ..metadata.clouds import CLOUDS, PUBLIC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .._core.key import Key

    Completer = Callable[..., Iterable[str]]
    """Takes the beginning of a value as ``prefix``; tells values, and their meanings by a dict."""

_PLAIN = re.compile(r"[A-Za-z0-9/_.:@%+-]+")
_COMMON = (
    PUBLIC.resource_manager,
    f"https://{PUBLIC.key_vault_suffix}",
    "https://storage.azure.com",
    "https://graph.microsoft.com",
    "https://database.windows.net",
    "https://cognitiveservices.azure.com",
)


def tell_values(parser: argparse.ArgumentParser) -> None:
    """Let the arguments of a parser and of its subcommands tell their values to argcomplete."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for subparser in action.choices.values():
                tell_values(subparser)
        elif completer := _completer_of(action):
            action.completer = completer  # type: ignore[attr-defined]


def _completer_of(action: argparse.Action) -> Completer | None:
    if action.nargs == argparse.REMAINDER:
        return _command_line
    return _BY_DEST.get(action.dest) or _BY_METAVAR.get(str(action.metavar))


def _command_line(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> Iterable[str]:
    """A program, and files after it."""
    is_program = parsed_args.words in ([], ["--"]) and os.sep not in prefix
    return _programs(prefix) if is_program else FilesCompleter()(prefix)


def _programs(prefix: str) -> Iterator[str]:
    for folder in os.get_exec_path(for_child({})):
        names = os.listdir(folder) if os.path.isdir(folder) else []
        yield from (
            name
            for name in sorted(names)
            if name.startswith(prefix) and os.access(os.path.join(folder, name), os.X_OK)
        )


def _seen(value: Callable[[Key], str]) -> list[str]:
    """What the keys say for which this user's processes share tokens."""
    machine = shared_cache_for()
    # A look makes no directory where there is none.
    is_there = machine is not None and os.path.isdir(machine.directory.path)
    records = machine.records() if machine and is_there and machine.usable() else []
    found = {value(entry.key) for entry in records}
    # Whoever wrote an entry: it is to be no command to a shell.
    return sorted(each for each in found if _PLAIN.fullmatch(each))


def _identities(selector: str) -> dict[str, str]:
    found = _seen(lambda key: key.identity if key.selector == selector else "")
    return dict.fromkeys(found, "has a token on this machine")


def _resources(ending: str = "") -> dict[str, str]:
    shared = _seen(lambda key: key.resource.rstrip("/"))
    return {
        **{each + ending: "" for each in _COMMON},
        **{each + ending: "has a token on this machine" for each in shared},
    }


_BY_DEST: dict[str, Completer] = {
    "client_id": lambda **_: _identities("client_id"),
    "object_id": lambda **_: _identities("object_id"),
    "resource_id": lambda **_: _identities("resource_id"),
    "resource": lambda **_: _resources(),
    "resource_or_scope": lambda **_: _resources(),
    "allow_resource": lambda **_: _resources(),
    "vault_resource": lambda **_: _resources(),
    "scope": lambda **_: _resources("/.default"),
    "cloud": lambda **_: [cloud.name for cloud in CLOUDS],
}
_BY_METAVAR: dict[str, Completer] = {
    **dict.fromkeys(("FILE", "SOCKET"), FilesCompleter()),
    **dict.fromkeys(("DIRECTORY", "DIR"), DirectoriesCompleter()),
}
