"""A cache of endpoints that recently did not respond."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._core.failure import Failure

UNAVAILABLE_SECONDS = 30.0
"""Seconds for which a probed endpoint that did not respond is not probed again."""


class UnavailableEndpoints:
    """A negative cache, so that the next scope does not wait for the same endpoint again."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, Failure]] = {}

    def remember(self, endpoint: str, failure: Failure, now: float) -> None:
        """Make `check` raise ``failure`` for a while, counted from the first failure."""
        if self._failure(endpoint, now) is None:
            self._known[endpoint] = now + UNAVAILABLE_SECONDS, failure

    def check(self, endpoint: str, now: float) -> None:
        """Return if a request to ``endpoint`` may succeed.

        Raises:
            Failure: if it recently did not respond.
        """
        failure = self._failure(endpoint, now)
        if failure is not None:
            raise failure.copy()

    def clear(self) -> None:
        """Remove all endpoints."""
        self._known.clear()

    def _failure(self, endpoint: str, now: float) -> Failure | None:
        until, failure = self._known.get(endpoint, (now, None))
        return failure if now < until <= now + UNAVAILABLE_SECONDS else None
