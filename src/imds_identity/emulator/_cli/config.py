"""The emulator's TOML file, read into `Emulator`'s arguments; every error names its line."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import re
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .._clock import ScaledClock
from .._kinds import fits, in_words, kinds_of
from .._machine.identities import SystemAssigned, UserAssigned, checked_identities
from .._machine.machine import Machine
from .._state.events import Announcement
from .._state.fault import Fault
from .options import rows
from .positions import Positions

if TYPE_CHECKING:
    import os

    from .._kinds import Kinds
    from .._machine.identities import Identity

# The standard library has tomllib since 3.11; for 3.10 the package tomli is the same code.
tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
_IDENTITY: Mapping[str, Kinds] = dict.fromkeys(
    ("kind", "name", "client_id", "object_id", "resource_id"), (str,)
)
_EVENT: Mapping[str, Kinds] = {
    "type" if name == "event_type" else name: kinds
    for name, kinds in kinds_of(Announcement).items()
}


class ConfigError(ValueError):
    """The file cannot be used; the message says where and why."""


def load_config(path: str | os.PathLike[str], **overrides: Any) -> dict[str, Any]:
    """Read a file into `Emulator`'s arguments.

    Args:
        path: the TOML file.
        overrides: arguments that go before what the file says.

    Returns:
        The arguments that it gives, and the overrides; those never mentioned are left out.

    Raises:
        ConfigError: if it is not TOML, or says what makes no sense; the message names the line.
        OSError: if it cannot be read.
    """
    with open(path, "rb") as file:
        data = file.read()
    try:
        text = data.decode()
        document = tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}, line {line}: this is not UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_syntax_message(str(path), text, str(error))) from None
    return _Reader(str(path), text).checked(document, overrides)


def _syntax_message(path: str, text: str, message: str) -> str:
    found = re.search(r"line (\d+)", message)
    line = int(found.group(1)) if found else text.count("\n") + 1
    words = re.sub(r"\s*\(at .*\)$", "", message)
    return f"{path}, line {line}: this is not TOML: {words}."


class _Reader:
    """Turns a document into arguments, and knows where its keys stand.

    Args:
        path: of the file, for messages.
        text: the file.
    """

    def __init__(self, path: str, text: str) -> None:
        self._path = path
        self._positions = Positions(text)
        # Options that the file does not write as one value: how it does, and what reads that.
        self._readers: Mapping[str, tuple[Kinds, Callable[[Any], Any]]] = {
            "machine": ((Mapping,), self._machine),
            "identity": ((list,), self._identities),
            "key_vault.secrets": ((Mapping,), self._secrets),
            "fault": (
                (list,),
                functools.partial(self._tables, "fault", kinds_of(Fault), Fault),
            ),
            "event": (
                (list,),
                functools.partial(self._tables, "event", _EVENT, event_arguments),
            ),
            "events_speed": ((int, float), self._events_clock),
        }

    def checked(self, document: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
        """The arguments, of which `Emulator` approves."""
        from .._emulator import Emulator

        arguments = {**self._arguments(document), **overrides}
        self._made("", "", functools.partial(Emulator, **arguments))
        return arguments

    def _arguments(self, document: dict[str, Any]) -> dict[str, Any]:
        given: dict[str, Any] = {}
        for table, kinds in self._known().items():
            values = document.get(table, {}) if table else document
            self._check(table, values, kinds)
            given.update({_key(table, name): value for name, value in values.items()})
        return {
            row.name: self._readers[row.key][1](given[row.key])
            if row.key in self._readers
            else given[row.key]
            for row in rows()
            if row.key in given
        }

    def _known(self) -> dict[str, dict[str, Kinds]]:
        """The keys of each table of options, with what they may be; the first is the file's own."""
        known: dict[str, dict[str, Kinds]] = {"": {}}
        for row in rows():
            table, _, name = row.key.rpartition(".")
            if table:
                known[""][table] = (Mapping,)
            if name:
                read = self._readers.get(row.key)
                known.setdefault(table, {})[name] = row.kinds if read is None else read[0]
        return known

    def _machine(self, table: dict[str, Any]) -> Machine:
        self._check("machine", table, kinds_of(Machine))
        made: Machine = self._made("machine", "", lambda: Machine(**table))
        return made

    def _events_clock(self, factor: float) -> ScaledClock:
        made: ScaledClock = self._made("", "events_speed", lambda: ScaledClock(factor))
        return made

    def _secrets(self, table: dict[str, Any]) -> dict[str, str]:
        for name, value in table.items():
            if not isinstance(value, str):
                raise self._error("key_vault.secrets", name, f"secrets.{name} must be a string.")
        return table

    def _identities(self, tables: list[Any]) -> tuple[Identity, ...]:
        found = self._tables("identity", _IDENTITY, _identity, tables)
        made: tuple[Identity, ...] = self._made("identity#0", "", lambda: checked_identities(found))
        return made

    def _tables(
        self,
        name: str,
        known: Mapping[str, Kinds],
        make: Callable[..., Any],
        tables: list[Any],
    ) -> list[Any]:
        made = []
        for index, table in enumerate(tables):
            where = f"{name}#{index}"
            if not isinstance(table, dict):
                raise self._error("", name, f"{name} must be tables, written [[{name}]].")
            self._check(where, table, known)
            made.append(self._made(where, "", functools.partial(make, **table)))
        return made

    def _check(self, where: str, table: dict[str, Any], known: Mapping[str, Kinds]) -> None:
        for name, value in table.items():
            if name not in known:
                raise self._error(
                    where, name, f"{name!r} is not known here; known are {', '.join(known)}."
                )
            if not fits(value, known[name]):
                raise self._error(where, name, f"{name} must be {in_words(known[name])}.")

    def _made(self, where: str, name: str, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except ValueError as error:
            named = name or self._positions.mentioned(where, str(error))
            raise self._error(where, named, str(error)) from None

    def _error(self, where: str, name: str, message: str) -> ConfigError:
        return ConfigError(f"{self._path}, line {self._positions.line(where, name)}: {message}")


def _key(table: str, name: str) -> str:
    return f"{table}.{name}" if table else name


def event_arguments(**table: Any) -> dict[str, Any]:
    """An event of the file or of a flag as `Emulator` takes it.

    Raises:
        ValueError: if it makes no sense.
    """
    details = {("event_type" if name == "type" else name): value for name, value in table.items()}
    Announcement(**details)
    return details


def _identity(kind: str = "user-assigned", **table: str) -> Identity:
    if kind == "system-assigned":
        if "name" in table or "resource_id" in table:
            raise ValueError(
                "a system-assigned identity has neither name nor resource_id; its machine has."
            )
        return SystemAssigned(**table)
    if kind != "user-assigned":
        raise ValueError(f"kind must be system-assigned or user-assigned, not {kind!r}.")
    name = table.pop("name", None)
    if name is not None:
        return dataclasses.replace(UserAssigned.named(name), **table)
    missing = [field for field in ("client_id", "object_id", "resource_id") if field not in table]
    if missing:
        raise ValueError(f"a user-assigned identity needs a name, or else {', '.join(missing)}.")
    return UserAssigned(**table)
