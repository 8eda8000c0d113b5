"""The conversion of the command's flags to the arguments of `Emulator`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._clock import ScaledClock, parse_clock
from .._field_types import describe_types, did_you_mean, field_types, is_scalar, parse_value
from .._machine.identities import DEFAULT_SYSTEM_ASSIGNED, UserAssigned
from .._machine.machine import Machine
from .._state.events import EventSpec
from .._state.fault import Fault
from .config import event_arguments
from .options import all_options

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping

    from .._field_types import FieldTypes
    from .._machine.identities import Identity


def emulator_arguments(args: argparse.Namespace) -> dict[str, object]:
    """Return `Emulator`'s arguments for the flags that were given; ValueError if one is invalid."""
    given = {option.name: getattr(args, option.name, None) for option in all_options()}
    if given["faults"] is not None:
        given["faults"] = [parse_fault(text) for text in given["faults"]]
    if given["events"] is not None:
        given["events"] = [parse_event(text) for text in given["events"]]
    if given["machine"] is not None or args.no_load_balancer:
        attributes = _parse_machine(given["machine"] or ())
        if args.no_load_balancer:
            attributes["load_balancer"] = None
        given["machine"] = Machine(**attributes)
    if given["clock"] is not None:
        given["clock"] = parse_clock(given["clock"])
    if given["events_clock"] is not None:
        given["events_clock"] = ScaledClock(_parse_factor(given["events_clock"]))
    if given["identities"] is not None or args.no_system_assigned:
        names = given["identities"] or ()
        given["identities"] = build_identities(names, system_assigned=not args.no_system_assigned)
    arguments = {name: value for name, value in given.items() if value is not None}
    return {**arguments, "admin_port": None} if args.no_admin else arguments


def _parse_machine(texts: Iterable[str]) -> dict[str, Any]:
    pairs = ",".join(texts).split(",") if texts else ()
    return _parse_attributes("--machine", pairs, field_types(Machine))


def parse_fault(text: str) -> Fault:
    """Parse ``attribute=value,...``."""
    return Fault(**_parse_attributes("--fault", text.split(","), field_types(Fault)))


def parse_event(text: str) -> dict[str, Any]:
    """Parse ``Type,attribute=value,...``."""
    event_type, *pairs = text.split(",")
    known = {name: types for name, types in field_types(EventSpec).items() if name != "event_type"}
    return event_arguments(type=event_type, **_parse_attributes("--event", pairs, known))


def build_identities(names: Iterable[str], *, system_assigned: bool) -> tuple[Identity, ...]:
    """Return user-assigned identities with these names, and perhaps a system-assigned one."""
    named = tuple(UserAssigned.named(name) for name in names)
    return (DEFAULT_SYSTEM_ASSIGNED, *named) if system_assigned else named


def _parse_factor(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"--events-speed must be a number, not {text!r}.") from None


def _parse_attributes(
    flag: str, pairs: Iterable[str], known: Mapping[str, FieldTypes]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not is_scalar(known.get(name, ())):
            names = ", ".join(name for name, types in known.items() if is_scalar(types))
            raise ValueError(
                f"{flag}: {pair!r} is not attribute=value with one of the attributes {names}."
                + did_you_mean(name, known)
            )
        if name == "headers" and name in found:
            value = f"{found[name]}\n{value}"
        try:
            found[name] = parse_value(value, known[name])
        except ValueError:
            expected = describe_types(known[name])
            raise ValueError(f"{flag}: {name} must be {expected}, not {value!r}.") from None
    return found
