"""Faults, events and identities as the command line writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._clock import ScaledClock
from .._world.faults import ATTRIBUTE_TYPES, Fault
from .._world.identities import DEFAULT_SYSTEM_ASSIGNED, UserAssigned
from .config import EVENT_TYPES, event_arguments

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .._clock import Clock
    from .._world.identities import Identity

_YES_OR_NO = {"true": True, "false": False}


def fault(text: str) -> Fault:
    """Returns the fault that ``attribute=value,...`` describes.

    Raises:
        ValueError: It describes none.
    """
    return Fault(**_attributes("--fault", text.split(","), ATTRIBUTE_TYPES))


def event(text: str) -> dict[str, Any]:
    """Returns the event that ``Type,attribute=value,...`` describes.

    Raises:
        ValueError: It describes none.
    """
    kind, *details = text.split(",")
    return event_arguments(type=kind, **_attributes("--event", details, EVENT_TYPES))


def identities(names: Iterable[str], *, system_assigned: bool) -> tuple[Identity, ...]:
    """Returns the machine's identities.

    Args:
        names: Names of user-assigned ones.
        system_assigned: Whether there is a system-assigned one.
    """
    named = tuple(UserAssigned.named(name) for name in names)
    return (DEFAULT_SYSTEM_ASSIGNED, *named) if system_assigned else named


def events_clock(factor: float) -> Clock:
    """Returns the clock that events run on.

    Raises:
        ValueError: The factor is not above zero.
    """
    return ScaledClock(factor)


def _attributes(
    flag: str, pairs: Iterable[str], known: Mapping[str, type | tuple[type, ...]]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or name not in known:
            usual = ", ".join(name for name, wanted in known.items() if _plain(wanted))
            raise ValueError(f"{flag}: {pair!r} is no attribute=value; there are {usual}.")
        try:
            found[name] = _converted(value, known[name])
        except (ValueError, KeyError):
            raise ValueError(f"{flag}: {name} cannot be {value!r}.") from None
    return found


def _plain(wanted: type | tuple[type, ...]) -> bool:
    return wanted not in (dict, list) and not (isinstance(wanted, tuple) and dict in wanted)


def _converted(value: str, wanted: type | tuple[type, ...]) -> Any:
    if wanted is bool:
        return _YES_OR_NO[value.lower()]
    if not _plain(wanted):
        raise ValueError(value)
    kinds = wanted if isinstance(wanted, tuple) else (wanted,)
    if int in kinds and value.lstrip("-").isdecimal():
        return int(value)
    if float in kinds and str not in kinds:
        return float(value)
    if str not in kinds:
        raise ValueError(value)
    return value
