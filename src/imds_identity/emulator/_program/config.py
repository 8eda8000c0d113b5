"""The emulator's TOML file, read into `Emulator`'s arguments; every error names its line."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import re
import sys
from typing import TYPE_CHECKING, Any

from .._clock import ScaledClock
from .._world.faults import ATTRIBUTE_TYPES, Fault
from .._world.identities import SystemAssigned, UserAssigned, checked_identities
from .._world.machine import Machine

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from .._world.identities import Identity

# Python has it since 3.11; before, the same code is called tomli.
tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
_HEADER = re.compile(r"\s*(\[\[?)\s*([^\]]+?)\s*\]")
_KEY = re.compile(r"""\s*["']?([A-Za-z0-9_-]+)["']?(?:\s*\.[^=]*)?\s*=""")
_NUMBER = (int, float)
_TOP: dict[str, type | tuple[type, ...]] = {
    "profile": str,
    "host": str,
    "port": int,
    "admin_port": int,
    "allow_remote": bool,
    "token_lifetime": int,
    "limits": bool,
    "latency": _NUMBER,
    "tokens_directory": str,
    "arc_agent": str,
    "arc_secret_lifetime": _NUMBER,
    "identity_header": str,
    "newest_version": str,
    "seed": int,
    "log_size": int,
    "events_speed": _NUMBER,
    "machine": dict,
    "identity": list,
    "key_vault": dict,
    "fault": list,
    "event": list,
}
_KEY_VAULT: dict[str, type | tuple[type, ...]] = {"enabled": bool, "port": int, "secrets": dict}
EVENT_TYPES: dict[str, type | tuple[type, ...]] = {
    "type": str,
    "notice": _NUMBER,
    "runs": _NUMBER,
    "resources": list,
    "description": str,
    "source": str,
    "duration": int,
}
_IDENTITY: dict[str, type | tuple[type, ...]] = {
    "kind": str,
    "name": str,
    "client_id": str,
    "object_id": str,
    "resource_id": str,
}
_MACHINE: dict[str, type | tuple[type, ...]] = {
    field.name: dict if field.name in {"tags", "compute", "network", "load_balancer"} else str
    for field in dataclasses.fields(Machine)
}
_TYPE_NAMES = {str: "a string", int: "a whole number", bool: "true or false"}


class ConfigError(ValueError):
    """The file cannot be used; the message says where and why."""


def load_config(path: str | os.PathLike[str], **overrides: Any) -> dict[str, Any]:
    """Reads a file into `Emulator`'s arguments.

    Args:
        path: The TOML file.
        overrides: Arguments that go before what the file says.

    Returns:
        The arguments that it gives, and the overrides; those never mentioned are left out.

    Raises:
        ConfigError: It is not TOML, or says what makes no sense; the message names the line.
        OSError: It cannot be read.
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
    """Turns a document into arguments, and remembers where its keys stand."""

    def __init__(self, path: str, text: str) -> None:
        self._path = path
        self._lines = _line_numbers(text)

    def checked(self, document: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
        from .._emulator import Emulator

        arguments = {**self.arguments(document), **overrides}
        # Its constructor knows best what goes together, and touches nothing.
        self._made("", "", functools.partial(Emulator, **arguments))
        return arguments

    def arguments(self, document: dict[str, Any]) -> dict[str, Any]:
        self._check("", document, _TOP)
        simple = {name: value for name, value in document.items() if name not in _NOT_SIMPLE}
        if "events_speed" in document:
            speed = document["events_speed"]
            simple["events_clock"] = self._made("", "events_speed", lambda: ScaledClock(speed))
        if "machine" in document:
            table = document["machine"]
            self._check("machine", table, _MACHINE)
            simple["machine"] = self._made("machine", "", lambda: Machine(**table))
        if "identity" in document:
            simple["identities"] = self._identities(document["identity"])
        if "fault" in document:
            simple["faults"] = self._tables("fault", document["fault"], ATTRIBUTE_TYPES, Fault)
        if "event" in document:
            simple["events"] = self._tables(
                "event", document["event"], EVENT_TYPES, event_arguments
            )
        simple.update(self._key_vault(document.get("key_vault", {})))
        return simple

    def _key_vault(self, table: dict[str, Any]) -> dict[str, Any]:
        self._check("key_vault", table, _KEY_VAULT)
        for name, value in table.get("secrets", {}).items():
            if not isinstance(value, str):
                raise self._error("key_vault.secrets", name, f"secrets.{name} must be a string.")
        names = {"enabled": "key_vault", "port": "key_vault_port", "secrets": "secrets"}
        return {names[name]: value for name, value in table.items()}

    def _identities(self, tables: list[Any]) -> tuple[Identity, ...]:
        found = self._tables("identity", tables, _IDENTITY, _identity)
        made: tuple[Identity, ...] = self._made("identity#0", "", lambda: checked_identities(found))
        return made

    def _tables(
        self,
        name: str,
        tables: list[Any],
        known: dict[str, type | tuple[type, ...]],
        make: Callable[..., Any],
    ) -> list[Any]:
        made = []
        for index, table in enumerate(tables):
            where = f"{name}#{index}"
            if not isinstance(table, dict):
                raise self._error("", name, f"{name} must be tables, written [[{name}]].")
            self._check(where, table, known)
            made.append(self._made(where, "", functools.partial(make, **table)))
        return made

    def _check(
        self, where: str, table: dict[str, Any], known: dict[str, type | tuple[type, ...]]
    ) -> None:
        for name, value in table.items():
            if name not in known:
                raise self._error(
                    where, name, f"{name!r} is not known here; known are {', '.join(known)}."
                )
            wanted = known[name]
            is_bool_in_vain = isinstance(value, bool) and wanted is not bool
            if is_bool_in_vain or not isinstance(value, wanted):
                raise self._error(where, name, f"{name} must be {_type_name(wanted)}.")

    def _made(self, where: str, name: str, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except ValueError as error:
            raise self._error(
                where, name or self._mentioned(where, str(error)), str(error)
            ) from None

    def _mentioned(self, where: str, message: str) -> str:
        words = set(re.findall(r"\w+", message))
        return next((name for table, name in self._lines if table == where and name in words), "")

    def _error(self, where: str, name: str, message: str) -> ConfigError:
        parent, _, last = where.rpartition(".")
        places = ((where, name), (where, ""), (parent, last), (parent, ""))
        line = next((self._lines[place] for place in places if place in self._lines), 1)
        return ConfigError(f"{self._path}, line {line}: {message}")


_NOT_SIMPLE = {"events_speed", "machine", "identity", "fault", "event", "key_vault"}


def _line_numbers(text: str) -> dict[tuple[str, str], int]:
    # tomllib keeps no positions; headers and keys at the start of a line are all that it takes.
    lines: dict[tuple[str, str], int] = {}
    counts: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), start=1):
        header = _HEADER.match(line)
        if header is not None:
            table = header.group(2).replace(" ", "")
            if header.group(1) == "[[":
                counts[table] = counts.get(table, -1) + 1
                table = f"{table}#{counts[table]}"
            lines.setdefault((table, ""), number)
            parent, _, last = table.rpartition(".")
            lines.setdefault((parent, last), number)
            lines.setdefault(("", table.partition("#")[0]), number)
            continue
        key = _KEY.match(line)
        if key is not None:
            lines.setdefault((table, key.group(1)), number)
    return lines


def _type_name(wanted: type | tuple[type, ...]) -> str:
    if isinstance(wanted, tuple):
        return "a number or a string" if str in wanted else "a number"
    if wanted is dict:
        return "a table"
    if wanted is list:
        return "a list of tables or strings"
    return _TYPE_NAMES[wanted]


def event_arguments(**table: Any) -> dict[str, Any]:
    """Returns an event of the file or of a flag as `Emulator` takes it.

    Raises:
        ValueError: It makes no sense.
    """
    details = {("event_type" if name == "type" else name): value for name, value in table.items()}
    from .._clock import ManualClock
    from .._services.scheduled_events import Events

    # Tried on a calendar of its own, so that a slip is found while its line is known.
    Events(ManualClock(), "").schedule(**details)
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
