"""Where the service's tokens come from, its cache and its clock."""

from __future__ import annotations

import json
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

from .shared_state import SharedState, steady
from .tokens import IssuedToken, minted

if TYPE_CHECKING:
    import random

    from .connection import Wanted

_OLDEST = 4.0
_SHARE_CACHED = 0.3


class TokenFactory:
    """Makes tokens, and gives some of them twice as the real service does.

    Args:
        shared_state: tells the service's time.
        dice: chooses lifetimes.
    """

    def __init__(self, shared_state: SharedState, dice: random.Random) -> None:
        self._board = shared_state
        self._dice = dice
        self._last: dict[tuple[str, str], IssuedToken] = {}
        self._serial = 0

    def token(self, wanted: Wanted, **changes: Any) -> IssuedToken:
        """A sound token, but for ``changes``, which is then in no cache."""
        cached = self._last.get((wanted.resource, wanted.who))
        now = steady()
        usable = cached is not None and cached.end > now + _OLDEST
        if usable and not wanted.bypass and not changes and self._dice.random() < _SHARE_CACHED:
            assert cached is not None
            return cached
        self._serial += 1
        facts = IssuedToken(wanted.resource, wanted.who, now, now + self._lifetime(), self._serial)
        if changes:
            return facts._replace(**changes)
        self._last[wanted.resource, wanted.who] = facts
        return facts

    def payload(self, wanted: Wanted, facts: IssuedToken, **changes: Any) -> dict[str, Any]:
        """The JSON of a 200 answer with this token."""
        left = facts.end - steady()
        # Counted from issuance or from now: real services do the one or the other.
        lifetime = facts.end - facts.minted if self._dice.random() < 0.5 else left
        payload = {
            "access_token": minted(facts),
            "expires_in": str(int(lifetime)),
            "expires_on": str(int(self._board.service_wall() + left)),
            "not_before": str(int(self._board.service_wall()) - 300),
            "resource": wanted.resource,
            "token_type": "Bearer",
            **({wanted.selector: wanted.who} if wanted.selector else {}),
            **changes,
        }
        return {name: value for name, value in payload.items() if value is not None}

    def body(self, wanted: Wanted) -> bytes:
        return json.dumps(self.payload(wanted, self.token(wanted))).encode()

    def date(self) -> str:
        return formatdate(self._board.service_wall(), usegmt=True)

    def _lifetime(self) -> float:
        dice = self._dice.random()
        if dice < 0.35:
            return self._dice.uniform(6, 12)
        if dice < 0.93:
            return self._dice.uniform(12, 60)
        return self._dice.uniform(8000, 80000)
