"""Values that argcomplete offers for arguments; never a token or a secret."""

from __future__ import annotations

import argparse
import os
import re
from typing import TYPE_CHECKING

from argcomplete.completers import DirectoriesCompleter, FilesCompleter

from .._platform.environment import for_child
from .._shared_cache.location import shared_cache_for
from ..doctor._catalog.checks import CATALOG
from ..doctor._catalog.codes import CODES
from ..metadata.clouds import CLOUDS, PUBLIC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .._core.key import Key

    Completer = Callable[..., Iterable[str]]
    """Takes the typed characters as ``prefix``; returns values, or a dict with descriptions."""

_SHELL_SAFE = re.compile(r"[A-Za-z0-9/_.:@%+-]+")
_COMMON_RESOURCES = (
    PUBLIC.resource_manager,
    f"https://{PUBLIC.key_vault_suffix}",
    "https://storage.azure.com",
    "https://graph.microsoft.com",
    "https://database.windows.net",
    "https://cognitiveservices.azure.com",
)


def add_completers(parser: argparse.ArgumentParser) -> None:
    """Set the completers of all arguments of a parser and its subcommands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for subparser in action.choices.values():
                add_completers(subparser)
        elif completer := _completer_of(action):
            action.completer = completer  # type: ignore[attr-defined]


def _completer_of(action: argparse.Action) -> Completer | None:
    if action.nargs == argparse.REMAINDER:
        return _command_line
    return _BY_DEST.get(action.dest) or _BY_METAVAR.get(str(action.metavar))


def _command_line(prefix: str, parsed_args: argparse.Namespace, **_: object) -> Iterable[str]:
    """Complete a program and then files."""
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


def _cached(value: Callable[[Key], str]) -> list[str]:
    """Return a value of each key in the shared token cache."""
    cache = shared_cache_for()
    # Completion must not create the cache's directory.
    exists = cache is not None and os.path.isdir(cache.directory.path)
    records = cache.records() if cache and exists and cache.usable() else []
    found = {value(record.key) for record in records}
    # Another process wrote the records: a shell must not execute them.
    return sorted(each for each in found if _SHELL_SAFE.fullmatch(each))


def _identities(selector: str) -> dict[str, str]:
    found = _cached(lambda key: key.identity if key.selector == selector else "")
    return dict.fromkeys(found, "has a cached token")


def _resources(suffix: str = "") -> dict[str, str]:
    cached = _cached(lambda key: key.resource.rstrip("/"))
    return {
        **{each + suffix: "" for each in _COMMON_RESOURCES},
        **{each + suffix: "has a cached token" for each in cached},
    }


def _checks() -> dict[str, str]:
    return {number: entry.title for number, entry in CATALOG.items()}


_BY_DEST: dict[str, Completer] = {
    "client_id": lambda **_: _identities("client_id"),
    "object_id": lambda **_: _identities("object_id"),
    "resource_id": lambda **_: _identities("resource_id"),
    "resource": lambda **_: _resources(),
    "resource_or_scope": lambda **_: _resources(),
    "allow_resource": lambda **_: _resources(),
    "vault_resource": lambda **_: _resources(),
    "scope": lambda **_: _resources("/.default"),
    "explain": lambda **_: {**_checks(), **dict.fromkeys(CODES, "code of a service")},
    "check": lambda **_: _checks(),
    "cloud": lambda **_: [cloud.name for cloud in CLOUDS],
}
_BY_METAVAR: dict[str, Completer] = {
    **dict.fromkeys(("FILE", "SOCKET"), FilesCompleter()),
    **dict.fromkeys(("DIRECTORY", "DIR"), DirectoriesCompleter()),
}
