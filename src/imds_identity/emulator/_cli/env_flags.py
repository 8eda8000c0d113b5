"""The command's flags as environment variables, for containers and services.

``--token-lifetime 60`` is ``IMDS_EMULATOR_TOKEN_LIFETIME=60``, a switch is ``on`` or ``off``, and
the values of a repeatable flag are separated by semicolons.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .._clock import Clock
from .._field_types import check_names, describe_types, is_scalar, nearest, parse_value
from .options import all_options

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from .._field_types import FieldTypes

PREFIX = "IMDS_EMULATOR_"
_OTHERS = re.compile(PREFIX + r"(SERVICE_(HOST|PORT.*)|PORT_\d.*|KEY_VAULT_(URL|CA_FILE))")
_COMMAND_FLAGS: Mapping[str, FieldTypes] = {
    "--config": (str,),
    "--env-format": (str,),
    "--port-base": (int,),
}


def flags_from_environment(environment: Mapping[str, str]) -> dict[str, object]:
    """Return the flags that are set by variables; ValueError names an invalid variable."""
    found = {}
    flags = {_variable(flag): (attribute, types) for flag, attribute, types in _flags()}
    _check_names(environment, flags)
    for name, (attribute, types) in flags.items():
        text = environment.get(name, "")
        if text:
            try:
                found[attribute] = _value(text, types)
            except ValueError:
                expected = describe_types(types)
                raise ValueError(f"{name} must be {expected}, not {text!r}.") from None
    return found


def variables_of(options: Mapping[str, object]) -> dict[str, str]:
    """Return the variables that set flags by their names; TypeError if there is no such flag."""
    check_names("Emulator", options, (_attribute(flag) for flag, _, _ in _flags()))
    return {PREFIX + name.upper(): _text(value) for name, value in options.items()}


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return ";".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _attribute(flag: str) -> str:
    return flag.lstrip("-").replace("-", "_")


def _variable(flag: str) -> str:
    return PREFIX + _attribute(flag).upper()


def _check_names(environment: Mapping[str, str], known: Iterable[str]) -> None:
    """Raise ValueError if a variable has a name that is nearly that of a flag."""
    names = {name.removeprefix(PREFIX).lower(): name for name in known}
    for name in environment:
        own = name.removeprefix(PREFIX).lower()
        # The command prints the last two, and Kubernetes sets the others for a service.
        is_other = _OTHERS.fullmatch(name) or own in names
        if name.startswith(PREFIX) and not is_other and (near := nearest(own, names)):
            raise ValueError(
                f"{name} is not a variable of the emulator. Did you mean {names[near]}?"
            )


def _flags() -> Iterator[tuple[str, str, FieldTypes]]:
    """Yield each flag, the attribute in the parser's namespace, and the types of its value."""
    for option in all_options():
        if option.flag:
            types = (str,) if Clock in option.types else option.types
            yield option.flag, option.name, types
        switch = option.spec.switch[0]
        if switch:
            yield switch, _attribute(switch), (bool,)
    for flag, types in _COMMAND_FLAGS.items():
        yield flag, _attribute(flag), types


def _value(text: str, types: FieldTypes) -> object:
    if is_scalar(types):
        return parse_value(text, types)
    return [part.strip() for part in text.split(";") if part.strip()]
