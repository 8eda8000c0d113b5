"""A token."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn


class Token:
    """An access token and how long it is good. It is never changed, only replaced.

    Its repr hides it, and it refuses to be pickled. It is no tuple, because error trackers that
    show the locals of a failed frame look into tuples and not into objects.

    Attributes:
        value: the token itself.
        token_type: how to present it, in practice ``Bearer``.
        expires_on: when it ends, in Unix seconds on this machine's own clock.
        refresh_on: when it falls due, likewise.
        received_at: when it was asked for, in seconds of ``Clock.now``: what the service says of
            its life was true then at the latest.
        refresh_at: when it falls due, likewise.
        expires_at: when it ends, likewise.
        failed_refreshes: how many refreshes in a row have failed.
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
        self.value = value
        self.token_type = token_type
        self.expires_on = expires_on
        self.refresh_on = refresh_on
        self.received_at = received_at
        self.refresh_at = refresh_at
        self.expires_at = expires_at
        self.failed_refreshes = failed_refreshes

    def facts(self) -> dict[str, Any]:
        """All that there is to know of it, by name, the token itself included."""
        return {name: getattr(self, name) for name in self.__slots__}

    def replaced(self, **changes: Any) -> Token:
        """The same token, but for ``changes``."""
        return Token(**{**self.facts(), **changes})

    def as_answer(self, now: float) -> Token:
        """The same token, as the answer to a claims challenge that came ``now`` (``Clock.now``).

        Until then the service may have given the revoked token to others who asked for one.
        """
        return self.replaced(received_at=now, refresh_at=max(now, self.refresh_at))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Token) and self.facts() == other.facts()

    def __hash__(self) -> int:
        return hash((self.value, self.expires_at))

    def __repr__(self) -> str:
        return f"Token(<hidden>, expires_on={self.expires_on})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a token cannot be pickled; pickle the credential instead")
