"""A cache of endpoints that recently did not respond."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._core.failure import Failure

UNAVAILABLE_SECONDS = 30.0
"""Seconds for which a probed endpoint that did not respond is not probed again."""
FIRST_UNCERTAIN_SECONDS = 2.0
"""The same, the first time, for a service that may exist; it doubles with each failed probe."""


class UnavailableEndpoints:
    """A negative cache, so that the next scope does not wait for the same endpoint again."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, float, Failure]] = {}

    def remember(
        self, endpoint: str, failure: Failure, now: float, *, may_respond_later: bool
    ) -> None:
        """Make `check` raise ``failure`` for a while, counted from the first failure.

        If the service may exist, the time is short at first, and longer after each failed probe.
        """
        known = self._known.get(endpoint)
        if self._failure(endpoint, now) is not None:
            return
        seconds = UNAVAILABLE_SECONDS
        if may_respond_later:
            seconds = min(2 * known[1] if known else FIRST_UNCERTAIN_SECONDS, seconds)
        self._known[endpoint] = now + seconds, seconds, failure

    def forget(self, endpoint: str) -> None:
        """Remove ``endpoint``, which has responded."""
        self._known.pop(endpoint, None)

    def check(self, endpoint: str, now: float) -> None:
        """Raise the failure of ``endpoint`` if it recently did not respond."""
        failure = self._failure(endpoint, now)
        if failure is not None:
            raise failure.copy()

    def clear(self) -> None:
        """Remove all endpoints."""
        self._known.clear()

    def _failure(self, endpoint: str, now: float) -> Failure | None:
        until, _, failure = self._known.get(endpoint, (now, 0.0, None))
        return failure if now < until <= now + UNAVAILABLE_SECONDS else None
