"""The emulator's TOML file, converted to `Emulator`'s arguments; every error names its line."""

from __future__ import annotations

import functools
import importlib
import re
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from .._clock import ScaledClock, parse_clock
from .._field_types import describe_types, did_you_mean, field_types, has_type
from .._machine.identities import IdentitySpec, validate_identities
from .._machine.machine import Machine
from .._state.events import EventSpec
from .._state.fault import Fault
from .options import all_options
from .toml_lines import TomlLines

if TYPE_CHECKING:
    import os
    from typing import TypeAlias

    from .._field_types import FieldTypes
    from .._machine.identities import Identity

    Table: TypeAlias = dict[str, Any]

_T = TypeVar("_T")
# tomllib is part of Python since 3.11; for 3.10 the package tomli has the same code.
tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
_EVENT: Mapping[str, FieldTypes] = {
    "type" if name == "event_type" else name: types
    for name, types in field_types(EventSpec).items()
}


class ConfigError(ValueError):
    """The file is not valid; the message has the line and the reason."""


def load_config(path: str | os.PathLike[str], **overrides: Any) -> Table:
    """Read a TOML file and return `Emulator`'s arguments.

    Args:
        path: the TOML file.
        overrides: arguments that take precedence over the file.

    Returns:
        The arguments in the file and the overrides; options in neither are left out.

    Raises:
        ConfigError: if the file is not valid; the message names the line.
        OSError: if the file cannot be read.
    """
    with open(path, "rb") as file:
        data = file.read()
    try:
        text = data.decode()
        document = tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}, line {line}: the file is not UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_syntax_message(str(path), text, str(error))) from None
    return _Converter(str(path), text).convert(document, overrides)


def _syntax_message(path: str, text: str, message: str) -> str:
    found = re.search(r"line (\d+)", message)
    line = int(found.group(1)) if found else text.count("\n") + 1
    reason = re.sub(r"\s*\(at .*\)$", "", message)
    return f"{path}, line {line}: the file is not TOML: {reason}."


class _Converter:
    """Converts a document to arguments; ``path`` and ``text`` are for its messages."""

    def __init__(self, path: str, text: str) -> None:
        self._path = path
        self._toml_lines = TomlLines(text)
        # Options whose form in the file differs from the parameter: the types, and the conversion.
        self._converters: Mapping[str, tuple[FieldTypes, Callable[[Any], Any]]] = {
            "machine": ((Mapping,), self._machine),
            "identity": ((list,), self._identities),
            "key_vault.secrets": ((Mapping,), self._secrets),
            "fault": ((list,), functools.partial(self._tables, "fault", field_types(Fault), Fault)),
            "event": ((list,), functools.partial(self._tables, "event", _EVENT, event_arguments)),
            "events_speed": ((int, float), self._events_clock),
            "clock": ((str,), lambda text: self._build("", lambda: parse_clock(text), "clock")),
        }

    def convert(self, document: Table, overrides: Table) -> Table:
        """Return the arguments after validation by `Emulator`."""
        from .._emulator import Emulator

        arguments = {**self._arguments(document), **overrides}
        self._build("", functools.partial(Emulator, **arguments))
        return arguments

    def _arguments(self, document: Table) -> Table:
        values: Table = {}
        for table, types in self._known_keys().items():
            own = document.get(table, {}) if table else document
            self._check(table, own, types)
            values.update({_key(table, name): value for name, value in own.items()})
        return {
            option.name: self._converters[option.key][1](values[option.key])
            if option.key in self._converters
            else values[option.key]
            for option in all_options()
            if option.key in values
        }

    def _known_keys(self) -> dict[str, dict[str, FieldTypes]]:
        """Return the keys of each table with their types; the first table is the top level."""
        known: dict[str, dict[str, FieldTypes]] = {"": {}}
        for option in all_options():
            table, _, name = option.key.rpartition(".")
            if table:
                known[""][table] = (Mapping,)
            if name:
                converter = self._converters.get(option.key)
                types = option.types if converter is None else converter[0]
                known.setdefault(table, {})[name] = types
        return known

    def _machine(self, table: Table) -> Machine:
        self._check("machine", table, field_types(Machine))
        return self._build("machine", lambda: Machine(**table))

    def _events_clock(self, factor: float) -> ScaledClock:
        return self._build("", lambda: ScaledClock(factor), "events_speed")

    def _secrets(self, table: dict[str, str]) -> dict[str, str]:
        for name, value in table.items():
            if not isinstance(value, str):
                raise self._error("key_vault.secrets", name, f"secrets.{name} must be a string.")
        return table

    def _identities(self, tables: list[object]) -> tuple[Identity, ...]:
        found = self._tables("identity", field_types(IdentitySpec), IdentitySpec, tables)
        return self._build(
            "identity#0", lambda: validate_identities(spec.identity() for spec in found)
        )

    def _tables(
        self,
        name: str,
        known: Mapping[str, FieldTypes],
        build: Callable[..., _T],
        tables: list[object],
    ) -> list[_T]:
        built = []
        for index, table in enumerate(tables):
            where = f"{name}#{index}"
            if not isinstance(table, dict):
                raise self._error("", name, f"{name} must be a list of tables: [[{name}]].")
            self._check(where, table, known)
            built.append(self._build(where, functools.partial(build, **table)))
        return built

    def _check(self, where: str, table: dict[str, object], known: Mapping[str, FieldTypes]) -> None:
        for name, value in table.items():
            if name not in known:
                hint = did_you_mean(name, known) or f" The keys are {', '.join(known)}."
                raise self._error(where, name, f"{name!r} is not a known key.{hint}")
            if not has_type(value, known[name]):
                raise self._error(where, name, f"{name} must be {describe_types(known[name])}.")

    def _build(self, where: str, build: Callable[[], _T], name: str = "") -> _T:
        try:
            return build()
        except ValueError as error:
            key = name or self._toml_lines.mentioned(where, str(error))
            raise self._error(where, key, str(error)) from None

    def _error(self, where: str, name: str, message: str) -> ConfigError:
        return ConfigError(f"{self._path}, line {self._toml_lines.line(where, name)}: {message}")


def _key(table: str, name: str) -> str:
    return f"{table}.{name}" if table else name


def event_arguments(**table: Any) -> Table:
    """Return an event from the file or a flag in the form of `Emulator`'s argument."""
    details = {("event_type" if name == "type" else name): value for name, value in table.items()}
    EventSpec(**details)
    return details
