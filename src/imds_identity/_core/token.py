"""A token."""

from __future__ import annotations

from typing import NamedTuple, NoReturn

from .freshness import setback_delay


class Token(NamedTuple):
    """An access token and how long it is good. Its repr hides it, and it refuses to be pickled.

    Attributes:
        value: the token itself.
        token_type: how to present it, in practice ``Bearer``.
        expires_on: when it ends, in Unix seconds on this machine's own clock.
        refresh_on: when it falls due, likewise.
        received_at: when it came, in seconds of ``Clock.now``.
        refresh_at: when it falls due, likewise.
        expires_at: when it ends, likewise.
        setbacks: how many refreshes in a row have failed.
    """

    value: str
    token_type: str
    expires_on: int
    refresh_on: int
    received_at: float
    refresh_at: float
    expires_at: float
    setbacks: int = 0

    def __repr__(self) -> str:
        return f"Token(<hidden>, expires_on={self.expires_on})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a token is not to be pickled; pickle the credential instead")

    def set_back(self, now: float, random: float, retry_after: float | None) -> Token:
        """The same token after a refresh has failed: due again once the back-off is over.

        Args:
            now: when it failed (``Clock.now``).
            random: spreads the back-off, in [0, 1).
            retry_after: seconds for which the service asked to be left alone.
        """
        setbacks = self.setbacks + 1
        refresh_at = now + max(setback_delay(setbacks, random), retry_after or 0.0)
        refresh_on = round(self.refresh_on + refresh_at - self.refresh_at)
        return self._replace(refresh_at=refresh_at, refresh_on=refresh_on, setbacks=setbacks)
