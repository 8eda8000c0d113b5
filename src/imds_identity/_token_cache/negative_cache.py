"""Endpoints at which nobody was found a moment ago."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._core.failure import Failure

UNAVAILABLE_SECONDS = 30.0
"""For how long a service that nobody promised is not looked for again."""


class UnavailableEndpoints:
    """What a process remembers of services that are not there.

    So not each scope that a program asks for has to wait for one that does not answer.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, Failure]] = {}

    def note(self, endpoint: str, failure: Failure, now: float) -> None:
        """Remember that nobody answers at ``endpoint``, unless that is known already.

        Args:
            endpoint: its URL.
            failure: what those are told who ask next.
            now: the time (``Clock.now``).
        """
        if self._of(endpoint, now) is None:
            self._known[endpoint] = now + UNAVAILABLE_SECONDS, failure

    def check(self, endpoint: str, now: float) -> None:
        """Return if it is worth asking ``endpoint`` at ``now`` (``Clock.now``).

        Raises:
            Failure: if nobody answered there a moment ago.
        """
        failure = self._of(endpoint, now)
        if failure is not None:
            raise failure.copy()

    def clear(self) -> None:
        """Forget them."""
        self._known.clear()

    def _of(self, endpoint: str, now: float) -> Failure | None:
        until, failure = self._known.get(endpoint, (now, None))
        return failure if now < until <= now + UNAVAILABLE_SECONDS else None
