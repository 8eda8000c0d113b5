"""What a source is asked for."""

from __future__ import annotations

from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .identity import Identity


class TokenRequest(NamedTuple):
    """A token for this resource, as this identity.

    Attributes:
        resource: the App ID URI (or id) of the service the token is for.
        identity: whose token.
        claims: the claims challenge that refused the token held until now, or None. What came out
            of any cache before it is of no use.
        cae: whether the client says that it meets claims challenges (continuous access evaluation).
    """

    resource: str
    identity: Identity
    claims: str | None = None
    cae: bool = False
