"""The event that a credential's ``on_event`` hook receives."""

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
    """One completed fetch. Names and outcomes have few values, so that metrics have few series.

    Attributes:
        name: ``fetch`` if a caller waited for the token, ``refresh`` if it was fetched in the
            background, ``failure`` if the fetch failed.
        source: the kind of host: ``imds``, ``arc``, ``app-service``, ``container-instances``,
            ``service-fabric``, ``azure-ml``, ``cloud-shell`` or ``workload-identity``.
        outcome: ``fetched`` by a request, or ``shared`` by another process; for a failure
            ``unavailable``, ``refused``, ``malformed`` or ``arc-secret``.
        seconds: the duration of the fetch.
        remaining: seconds until the current token expires; 0 if there is none.
    """

    name: Literal["fetch", "refresh", "failure"]
    source: str
    outcome: str
    seconds: float
    remaining: float


def outcome_of(failure: Failure) -> str:
    """Return the outcome that names ``failure`` in events."""
    return _OUTCOMES[type(failure)]
