"""The tokens of the service, with the service's own cache and clock."""

from __future__ import annotations

import json
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

from .shared_state import SharedState, monotonic
from .tokens import IssuedToken, encode

if TYPE_CHECKING:
    import random

    from .connection import TokenRequest

_MINIMUM_LEFT = 4.0
_SHARE_CACHED = 0.3


class TokenFactory:
    """Issues tokens; some it returns twice, as the real service does."""

    def __init__(self, shared_state: SharedState, rng: random.Random) -> None:
        self._shared_state = shared_state
        self._rng = rng
        self._cache: dict[tuple[str, str], IssuedToken] = {}
        self._serial = 0

    def token(self, request: TokenRequest, **changes: Any) -> IssuedToken:
        """Return a valid token; one with ``changes`` is not cached."""
        cached = self._cache.get((request.resource, request.identity))
        now = monotonic()
        usable = cached is not None and cached.expires_at > now + _MINIMUM_LEFT
        if usable and not request.bypass and not changes and self._rng.random() < _SHARE_CACHED:
            assert cached is not None
            return cached
        self._serial += 1
        issued = IssuedToken(
            request.resource, request.identity, now, now + self._lifetime(), self._serial
        )
        if changes:
            return issued._replace(**changes)
        self._cache[request.resource, request.identity] = issued
        return issued

    def payload(self, request: TokenRequest, issued: IssuedToken, **changes: Any) -> dict[str, Any]:
        """Return the JSON object of a token response."""
        left = issued.expires_at - monotonic()
        # Azure counts expires_in down. According to its documentation, it counts from issuance.
        lifetime = issued.expires_at - issued.issued_at if self._rng.random() < 0.5 else left
        payload = {
            "access_token": encode(issued),
            "expires_in": str(int(lifetime)),
            "expires_on": str(int(self._shared_state.service_time() + left)),
            "not_before": str(int(self._shared_state.service_time()) - 300),
            "resource": request.resource,
            "token_type": "Bearer",
            **({request.selector: request.identity} if request.selector else {}),
            **changes,
        }
        return {name: value for name, value in payload.items() if value is not None}

    def body(self, request: TokenRequest) -> bytes:
        return json.dumps(self.payload(request, self.token(request))).encode()

    def date(self) -> str:
        return formatdate(self._shared_state.service_time(), usegmt=True)

    def _lifetime(self) -> float:
        kind = self._rng.random()
        if kind < 0.35:
            return self._rng.uniform(6, 12)
        if kind < 0.93:
            return self._rng.uniform(12, 60)
        return self._rng.uniform(8000, 80000)
