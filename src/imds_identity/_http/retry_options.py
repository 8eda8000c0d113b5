"""The caller's timeouts and retry policy."""

from __future__ import annotations

from typing import NamedTuple


class RetryOptions(NamedTuple):
    """The caller's changes to the retry policy. None keeps the default.

    Attributes:
        connect_seconds: timeout of one attempt to connect.
        request_seconds: timeout of one request.
        seconds: timeout of all requests of one fetch, with pauses.
        attempts: maximum number of requests.
        connect_attempts: maximum number of attempts that fail to connect.
        read_attempts: maximum number of requests without a complete response.
        status_attempts: maximum number of responses that would be retried.
        first_pause: seconds before the first retry.
        longest_pause: maximum seconds between two requests, unless ``Retry-After`` is longer.
        growth: the factor from each pause to the next.
        statuses: HTTP statuses to retry in addition to those of the operation.
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
        """Return these options, with those of ``other`` where they are None."""
        overrides = {name: value for name, value in self._asdict().items() if value is not None}
        return other._replace(**overrides)

    def pause(self, default_first: float, default_longest: float, doublings: int) -> float:
        """Return the seconds of the pause after ``doublings`` earlier ones, without jitter."""
        first = default_first if self.first_pause is None else self.first_pause
        longest = default_longest if self.longest_pause is None else self.longest_pause
        growth = 2.0 if self.growth is None else self.growth
        return min(first * growth**doublings, longest)


DEFAULT_RETRY = RetryOptions()
