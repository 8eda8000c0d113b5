"""The command's flags as environment variables, for containers and services.

``--token-lifetime 60`` is ``IMDS_EMULATOR_TOKEN_LIFETIME=60``, a switch is ``on`` or ``off``, and
the values of a repeatable flag are separated by semicolons.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._field_types import describe_types, is_scalar, parse_value
from .options import all_options

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .._field_types import FieldTypes

PREFIX = "IMDS_EMULATOR_"
_COMMAND_FLAGS: Mapping[str, FieldTypes] = {
    "--config": (str,),
    "--env-format": (str,),
    "--port-base": (int,),
}


def flags_from_environment(environment: Mapping[str, str]) -> dict[str, object]:
    """Return the flags that are set by variables; ValueError names an invalid variable."""
    found = {}
    for flag, attribute, types in _flags():
        name = PREFIX + flag.lstrip("-").replace("-", "_").upper()
        text = environment.get(name, "")
        if text:
            try:
                found[attribute] = _value(text, types)
            except ValueError:
                expected = describe_types(types)
                raise ValueError(f"{name} must be {expected}, not {text!r}.") from None
    return found


def _flags() -> Iterator[tuple[str, str, FieldTypes]]:
    """Yield each flag, the attribute in the parser's namespace, and the types of its value."""
    for option in all_options():
        if option.flag:
            types = (str,) if option.name == "events_clock" else option.types
            yield option.flag, option.name, types
        switch = option.spec.switch[0]
        if switch:
            yield switch, switch.lstrip("-").replace("-", "_"), (bool,)
    for flag, types in _COMMAND_FLAGS.items():
        yield flag, flag.lstrip("-").replace("-", "_"), types


def _value(text: str, types: FieldTypes) -> object:
    if is_scalar(types):
        return parse_value(text, types)
    return [part.strip() for part in text.split(";") if part.strip()]
