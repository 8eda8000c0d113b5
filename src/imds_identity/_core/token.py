"""The access token."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

_CLOCK_TOLERANCE = 2.0
"""Seconds. ``expires_on`` is rounded, and NTP corrects clocks gradually."""


class Token:
    """An immutable access token with its lifetime.

    Its repr hides the token, and it cannot be pickled. It is not a tuple, because error trackers
    that show local variables show the items of tuples, but not the attributes of objects.

    Attributes:
        value: the token.
        token_type: the authentication scheme, in practice ``Bearer``.
        expires_on: the expiry in Unix seconds of this machine's clock.
        refresh_on: the time of the refresh in Unix seconds of this machine's clock.
        received_at: the time of the request (``Clock.now``), from which the lifetime counts.
        refresh_at: the time of the refresh (``Clock.now``).
        expires_at: the expiry (``Clock.now``).
        failed_refreshes: the number of consecutive failed refreshes.
    """

    __slots__ = (
        "expires_at",
        "expires_on",
        "failed_refreshes",
        "received_at",
        "refresh_at",
        "refresh_on",
        "token_type",
        "value",
    )  # fmt: skip

    def __init__(
        self,
        value: str,
        token_type: str,
        expires_on: int,
        refresh_on: int,
        received_at: float,
        refresh_at: float,
        expires_at: float,
        failed_refreshes: int = 0,
    ) -> None:
        self.value: str = value
        self.token_type: str = token_type
        self.expires_on: int = expires_on
        self.refresh_on: int = refresh_on
        self.received_at: float = received_at
        self.refresh_at: float = refresh_at
        self.expires_at: float = expires_at
        self.failed_refreshes: int = failed_refreshes

    def facts(self) -> dict[str, object]:
        """Return all attributes by name, including the token."""
        return {name: getattr(self, name) for name in self.__slots__}

    def replace(self, **changes: Any) -> Token:
        """Return a copy with ``changes``."""
        return Token(**{**self.facts(), **changes})

    def at_wall_time(self, now: float, wall: float) -> Token:
        """Return this token with an earlier ``expires_on`` if the wall clock was set back.

        The wall clock was ahead when the token was fetched, so a client that compares
        ``expires_on`` with it would use the token for too long. A wall clock that was set forward
        changes nothing: the other clock may have stood still while the machine was suspended.

        Args:
            now: the time (``Clock.now``).
            wall: the Unix time (``Clock.wall``), read after ``now``.
        """
        ahead = self.expires_on - (wall + self.expires_at - now)
        if ahead <= _CLOCK_TOLERANCE:
            return self
        return self.replace(
            expires_on=self.expires_on - round(ahead), refresh_on=self.refresh_on - round(ahead)
        )

    def as_answer(self, now: float) -> Token:
        """Return a copy that satisfies a claims challenge and counts as requested ``now``.

        Until now, the service may have returned the revoked token to other requests.
        """
        return self.replace(received_at=now, refresh_at=max(now, self.refresh_at))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Token) and self.facts() == other.facts()

    def __hash__(self) -> int:
        return hash((self.value, self.expires_at))

    def __repr__(self) -> str:
        return f"Token(<hidden>, expires_on={self.expires_on})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a token cannot be pickled; pickle the credential instead")
