"""Faults, events and identities as the command line writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._clock import ScaledClock
from .._kinds import from_text, is_scalar, kinds_of
from .._machine.identities import DEFAULT_SYSTEM_ASSIGNED, UserAssigned
from .._machine.machine import Machine
from .._state.events import Announcement
from .._state.fault import Fault
from .config import event_arguments
from .options import rows

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping

    from .._kinds import Kinds
    from .._machine.identities import Identity


def arguments(args: argparse.Namespace) -> dict[str, Any]:
    """What the flags say, as `Emulator` takes it; what they do not say is left out.

    Raises:
        ValueError: if one of them describes nothing.
    """
    given = {row.name: getattr(args, row.name, None) for row in rows()}
    if given["faults"] is not None:
        given["faults"] = [fault(text) for text in given["faults"]]
    if given["events"] is not None:
        given["events"] = [event(text) for text in given["events"]]
    if given["machine"] is not None or args.no_load_balancer:
        described = _machine(given["machine"] or ())
        if args.no_load_balancer:
            described["load_balancer"] = None
        given["machine"] = Machine(**described)
    if given["events_clock"] is not None:
        given["events_clock"] = ScaledClock(_factor(given["events_clock"]))
    if given["identities"] is not None or args.no_system_assigned:
        names = given["identities"] or ()
        given["identities"] = identities(names, system_assigned=not args.no_system_assigned)
    said = {name: value for name, value in given.items() if value is not None}
    return {**said, "admin_port": None} if args.no_admin else said


def _machine(texts: Iterable[str]) -> dict[str, Any]:
    return _attributes("--machine", ",".join(texts).split(",") if texts else (), kinds_of(Machine))


def fault(text: str) -> Fault:
    """The fault that ``attribute=value,...`` describes.

    Raises:
        ValueError: if it describes none.
    """
    return Fault(**_attributes("--fault", text.split(","), kinds_of(Fault)))


def event(text: str) -> dict[str, Any]:
    """The event that ``Type,attribute=value,...`` describes.

    Raises:
        ValueError: if it describes none.
    """
    kind, *details = text.split(",")
    known = {name: kinds for name, kinds in kinds_of(Announcement).items() if name != "event_type"}
    return event_arguments(type=kind, **_attributes("--event", details, known))


def identities(names: Iterable[str], *, system_assigned: bool) -> tuple[Identity, ...]:
    """The machine's identities.

    Args:
        names: names of user-assigned ones.
        system_assigned: whether there is a system-assigned one.
    """
    named = tuple(UserAssigned.named(name) for name in names)
    return (DEFAULT_SYSTEM_ASSIGNED, *named) if system_assigned else named


def _factor(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"--events-speed: {text!r} is no number.") from None


def _attributes(flag: str, pairs: Iterable[str], known: Mapping[str, Kinds]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not is_scalar(known.get(name, ())):
            usual = ", ".join(name for name, kinds in known.items() if is_scalar(kinds))
            raise ValueError(f"{flag}: {pair!r} is no attribute=value; there are {usual}.")
        try:
            found[name] = from_text(value, known[name])
        except ValueError:
            raise ValueError(f"{flag}: {name} cannot be {value!r}.") from None
    return found
