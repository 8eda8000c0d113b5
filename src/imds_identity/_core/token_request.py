"""The request for a token."""

from __future__ import annotations

from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .identity import Identity
    from .token import Token


class TokenRequest(NamedTuple):
    """A token for this resource, as this identity.

    Attributes:
        resource: the App ID URI or the ID of the service that accepts the token.
        identity: the identity of the token.
        claims: the claims challenge with which a resource rejected the current token, or None. With
            claims, the service must not return a token from its cache.
        cae: whether the client handles claims challenges (continuous access evaluation).
        refused: the token that the resource rejected with ``claims``, if this process has it.
    """

    resource: str
    identity: Identity
    claims: str | None = None
    cae: bool = False
    refused: Token | None = None
