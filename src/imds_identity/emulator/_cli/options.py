"""The options of the emulator for flags and documentation, read from `Settings`.

``python -m imds_identity.emulator._cli.options FILE`` writes the table of options into a document.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import re
import sys
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from .._clock import Clock
from .._field_types import FieldTypes, field_types, is_scalar
from .._option import SAME_AS_PARAMETER, Option
from .._settings import Settings

_TABLE = re.compile(r"(<!-- options -->\n).*(<!-- end of options -->)", re.DOTALL)


class OptionInfo(NamedTuple):
    """One option, with the name and type of its parameter."""

    name: str
    types: FieldTypes
    choices: tuple[str, ...]  # empty if the values are not limited
    default: object
    spec: Option

    @property
    def flag(self) -> str:
        """The option's flag; empty if it has none."""
        if self.spec.flag is not None:
            return self.spec.flag
        return f"--{self.name.replace('_', '-')}" if is_scalar(self.types) else ""

    @property
    def key(self) -> str:
        """The option's key in the TOML file, such as ``table.key``."""
        return self.name if self.spec.key is None else self.spec.key

    @property
    def is_switch(self) -> bool:
        """Whether the flag takes no value."""
        return self.types == (bool,)

    @property
    def has_command_default(self) -> bool:
        """Whether the command's default differs from the parameter's."""
        return self.spec.command_default is not SAME_AS_PARAMETER

    @property
    def command_default(self) -> object:
        """The command's default."""
        return self.spec.command_default if self.has_command_default else self.default


@functools.cache
def all_options() -> tuple[OptionInfo, ...]:
    """Return the options in the order of `Settings`."""
    hints = get_type_hints(Settings, include_extras=True)
    types = field_types(Settings)
    return tuple(
        OptionInfo(
            field.name,
            types[field.name],
            get_args(hint.__origin__) if get_origin(hint.__origin__) is Literal else (),
            None if field.default is dataclasses.MISSING else field.default,
            hint.__metadata__[0],
        )
        for field in dataclasses.fields(Settings)
        for hint in (hints[field.name],)
    )


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of all options to a parser, with the default None."""
    for option in all_options():
        if option.flag:
            arguments = _argument_settings(option)
            parser.add_argument(option.flag, dest=option.name, help=_help(option), **arguments)
        switch, switch_help = option.spec.switch
        if switch:
            parser.add_argument(switch, action="store_true", default=None, help=switch_help)


def command_defaults() -> dict[str, object]:
    """Return the defaults of the command that differ from those of the parameters."""
    return {
        option.name: option.command_default
        for option in all_options()
        if option.has_command_default
    }


def _argument_settings(option: OptionInfo) -> dict[str, Any]:
    if option.is_switch:
        return {"action": argparse.BooleanOptionalAction, "default": None}
    metavar = option.spec.metavar
    if not is_scalar(option.types):
        return {"metavar": metavar, **({"action": "append"} if _is_repeatable(option) else {})}
    parse = next(each for each in (float, int, str) if each in option.types)
    if option.choices:
        return {"type": parse, "choices": option.choices}
    return {"type": parse, "metavar": metavar or "NUMBER"}


def _is_repeatable(option: OptionInfo) -> bool:
    return not is_scalar(option.types) and Clock not in option.types


def _help(option: OptionInfo) -> str:
    text = option.spec.flag_help or option.spec.help
    if _is_repeatable(option):
        text += "; repeatable"
    default = _format_default(option.command_default)
    return f"{text} (default: {default})" if default else text


def _format_default(default: object) -> str:
    if isinstance(default, bool):
        return "yes" if default else "no"
    return str(default) if isinstance(default, int | float | str) else ""


def markdown() -> str:
    """Return the table of options for the documentation."""
    lines = ["| Parameter | Default | Flag | Key in the file | Meaning |", "|---|---|---|---|---|"]
    for option in all_options():
        default = _format_default(option.default)
        if option.has_command_default:
            default += f" (command: {_format_default(option.command_default)})"
        flags = ", ".join(f"`{flag}`" for flag in _flags(option))
        key = f"`{option.key}`" if option.key else ""
        cells = (f"`{option.name}`", default.strip(), flags, key, option.spec.help)
        lines.append(f"| {' | '.join(cells)} |".replace("|  |", "| |"))
    return "\n".join(lines) + "\n"


def _flags(option: OptionInfo) -> list[str]:
    negation = f"--no-{option.flag.removeprefix('--')}" if option.is_switch else ""
    return [flag for flag in (option.flag, negation, option.spec.switch[0]) if flag]


def update_table(text: str) -> str:
    """Return a document with the current table between its markers."""
    return _TABLE.sub(lambda found: found.group(1) + markdown() + found.group(2), text)


if __name__ == "__main__":
    with open(sys.argv[1], "r+", encoding="utf-8") as file:
        updated = update_table(file.read())
        file.seek(0)
        file.write(updated)
        file.truncate()
