"""How patiently a service is asked, as far as the caller has a say in it."""

from __future__ import annotations

from .._platform.named_tuple import NamedTuple


class RetryOptions(NamedTuple):
    """What the caller wants otherwise than the schedule has it. None means: as it is.

    Attributes:
        connect_seconds: for one attempt to connect.
        request_seconds: for one whole request.
        seconds: for all requests of one fetch and what lies between them.
        attempts: how many requests, whatever came of them; likewise the next three.
        connect_attempts: how many of them may find nobody at the address.
        read_attempts: how many may get no complete answer.
        status_attempts: how many may get an answer that asking again may change.
        first_pause: seconds between the first two.
        longest_pause: seconds between any two, unless the service asks for more.
        growth: how much longer each pause is than the one before.
        statuses: answers that are worth asking again, besides those of the operation's rules.
    """

    connect_seconds: float | None = None
    request_seconds: float | None = None
    seconds: float | None = None
    attempts: int | None = None
    connect_attempts: int | None = None
    read_attempts: int | None = None
    status_attempts: int | None = None
    first_pause: float | None = None
    longest_pause: float | None = None
    growth: float | None = None
    statuses: frozenset[int] | None = None

    def with_defaults(self, other: RetryOptions) -> RetryOptions:
        """This, and ``other`` where this has no wish."""
        overrides = {name: wish for name, wish in self._asdict().items() if wish is not None}
        return other._replace(**overrides)

    def pause(self, usual: float, longest: float, doublings: int) -> float:
        """Seconds between two attempts.

        Args:
            usual: those between the first two, if the caller does not say.
            longest: those between any two, likewise.
            doublings: how many pauses there have been.
        """
        first = usual if self.first_pause is None else self.first_pause
        most = longest if self.longest_pause is None else self.longest_pause
        growth = 2.0 if self.growth is None else self.growth
        return min(first * growth**doublings, most)


DEFAULT_RETRY = RetryOptions()
