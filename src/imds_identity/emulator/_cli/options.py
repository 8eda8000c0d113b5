"""The table of options, read from `Settings`: what flags and documentation are made from.

``python -m imds_identity.emulator._cli.options FILE`` puts the table into a document.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import re
import sys
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from .._kinds import is_scalar, kinds_of
from .._settings import UNCHANGED, Option, Settings

if TYPE_CHECKING:
    from .._kinds import Kinds

_MARKED = re.compile(r"(<!-- options -->\n).*(<!-- end of options -->)", re.DOTALL)


class Row(NamedTuple):
    """One option.

    Attributes:
        name: what the parameter is called.
        kinds: what it may be.
        choices: the words that it may be, where only some are.
        default: what it is when nobody says.
        option: what else `Settings` says of it.
    """

    name: str
    kinds: Kinds
    choices: tuple[str, ...]
    default: Any
    option: Option

    @property
    def flag(self) -> str:
        """The flag that takes its value; empty if it has none."""
        if self.option.flag is not None:
            return self.option.flag
        return f"--{self.name.replace('_', '-')}" if is_scalar(self.kinds) else ""

    @property
    def key(self) -> str:
        """Its key in the file; a dot stands between a table and its key."""
        return self.name if self.option.key is None else self.option.key

    @property
    def is_switch(self) -> bool:
        """Whether its flag takes no value."""
        return self.kinds == (bool,)

    @property
    def command_default(self) -> Any:
        """What it is for the command when nobody says."""
        return self.default if self.option.command is UNCHANGED else self.option.command


@functools.cache
def rows() -> tuple[Row, ...]:
    """All options, in the order of `Settings`."""
    hints = get_type_hints(Settings, include_extras=True)
    kinds = kinds_of(Settings)
    return tuple(
        Row(
            field.name,
            kinds[field.name],
            get_args(hint.__origin__) if get_origin(hint.__origin__) is Literal else (),
            None if field.default is dataclasses.MISSING else field.default,
            hint.__metadata__[0],
        )
        for field in dataclasses.fields(Settings)
        for hint in (hints[field.name],)
    )


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flag of every option that has one; each defaults to None, for not given."""
    for row in rows():
        switch, effect = row.option.switch
        if row.flag:
            parser.add_argument(row.flag, dest=row.name, help=_help(row), **_form(row))
        if switch:
            parser.add_argument(switch, action="store_true", default=None, help=effect)


def command_defaults() -> dict[str, Any]:
    """What the command sets where nobody says, unlike the constructor."""
    changed = [row for row in rows() if row.option.command is not UNCHANGED]
    return {row.name: row.option.command for row in changed}


def _form(row: Row) -> dict[str, Any]:
    if row.is_switch:
        return {"action": argparse.BooleanOptionalAction, "default": None}
    if not is_scalar(row.kinds):
        repeated = row.name != "events_clock"
        return {"metavar": row.option.unit, **({"action": "append"} if repeated else {})}
    form: dict[str, Any] = {"type": next(k for k in (float, int, str) if k in row.kinds)}
    if row.choices:
        return {**form, "choices": row.choices}
    return {**form, "metavar": row.option.unit or "NUMBER"}


def _help(row: Row) -> str:
    words = row.option.help
    if not is_scalar(row.kinds) and row.name != "events_clock":
        words += "; repeat for more"
    shown = _shown(row.command_default)
    return f"{words} (default: {shown})" if shown else words


def _shown(default: Any) -> str:
    if default is None or not isinstance(default, (bool, int, float, str)):
        return ""
    return {True: "yes", False: "no"}[default] if isinstance(default, bool) else str(default)


def markdown() -> str:
    """The table for the documentation."""
    lines = [
        "| Parameter | Default | Flag | Key in the file | What it is |",
        "|---|---|---|---|---|",
    ]
    for row in rows():
        default = _shown(row.default)
        if row.option.command is not UNCHANGED:
            default += f" (command: {_shown(row.option.command)})"
        flags = ", ".join(f"`{flag}`" for flag in _flags(row))
        key = f"`{row.key}`" if row.key else ""
        cells = (f"`{row.name}`", default.strip(), flags, key, row.option.help)
        lines.append(f"| {' | '.join(cells)} |".replace("|  |", "| |"))
    return "\n".join(lines) + "\n"


def _flags(row: Row) -> list[str]:
    opposite = f"--no-{row.flag.removeprefix('--')}" if row.is_switch else ""
    return [flag for flag in (row.flag, opposite, row.option.switch[0]) if flag]


def documented(text: str) -> str:
    """A document with the table put between its marks."""
    return _MARKED.sub(lambda found: found.group(1) + markdown() + found.group(2), text)


if __name__ == "__main__":
    with open(sys.argv[1], "r+", encoding="utf-8") as file:
        new = documented(file.read())
        file.seek(0)
        file.write(new)
        file.truncate()
