"""The command's flags as environment variables, for containers and services.

``--token-lifetime 60`` is ``IMDS_EMULATOR_TOKEN_LIFETIME=60``, a switch is ``on`` or ``off``, and a
flag that may be repeated takes its values with semicolons between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._kinds import from_text, is_scalar
from .options import rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .._kinds import Kinds

PREFIX = "IMDS_EMULATOR_"
_OWN_FLAGS: Mapping[str, Kinds] = {"--config": (str,), "--port-base": (int,)}


def given(variables: Mapping[str, str]) -> dict[str, Any]:
    """What the variables say, as the parser would say it of the flags.

    Args:
        variables: the environment; an empty variable says nothing.

    Raises:
        ValueError: if a variable says what its flag cannot; the message names it.
    """
    found = {}
    for flag, attribute, kinds in _flags():
        name = PREFIX + flag.lstrip("-").replace("-", "_").upper()
        text = variables.get(name, "")
        if text:
            try:
                found[attribute] = _value(text, kinds)
            except ValueError:
                raise ValueError(f"{name} cannot be {text!r}.") from None
    return found


def _flags() -> Iterator[tuple[str, str, Kinds]]:
    """Each flag with the attribute that the parser leaves its value in, and what it may be."""
    for row in rows():
        if row.flag:
            yield row.flag, row.name, (str,) if row.name == "events_clock" else row.kinds
        if row.option.switch[0]:
            switch = row.option.switch[0]
            yield switch, switch.lstrip("-").replace("-", "_"), (bool,)
    for flag, kinds in _OWN_FLAGS.items():
        yield flag, flag.lstrip("-").replace("-", "_"), kinds


def _value(text: str, kinds: Kinds) -> Any:
    if is_scalar(kinds):
        return from_text(text, kinds)
    return [part.strip() for part in text.split(";") if part.strip()]
