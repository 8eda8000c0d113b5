"""What a credential's ``on_event`` hook is told."""

from __future__ import annotations

from typing import Literal, NamedTuple

from .failure import Failure, Malformed, Refused, SecretUnreadable, Unavailable

FETCHED = "fetched"
SHARED = "shared"
_OUTCOMES: dict[type[Failure], str] = {
    Unavailable: "unavailable",
    Refused: "refused",
    Malformed: "malformed",
    SecretUnreadable: "arc-secret",
}


class Event(NamedTuple):
    """One fetch that is over. Names and outcomes are few, so that metrics stay bounded.

    Attributes:
        name: ``fetch`` if somebody waited for the token, ``refresh`` if it was got in the
            background, ``failure`` if there is none.
        source: the kind of host: ``imds``, ``arc``, ``app-service``, ``service-fabric``,
            ``azure-ml``, ``cloud-shell`` or ``workload-identity``.
        outcome: ``fetched`` by a request, ``shared`` by another process; of a failure
            ``unavailable``, ``refused``, ``malformed`` or ``arc-secret``.
        seconds: how long it took.
        remaining: seconds for which there is a token now: the new one, or, after a failure, the
            one that is held; 0 if there is none.
    """

    name: Literal["fetch", "refresh", "failure"]
    source: str
    outcome: str
    seconds: float
    remaining: float


def outcome_of(failure: Failure) -> str:
    """The name of ``failure`` in events."""
    return _OUTCOMES[type(failure)]
