"""The cache key of a token."""

from __future__ import annotations

from typing import NamedTuple

from .identity import ascii_lower

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .identity import Identity
    from .source import Source


class Key(NamedTuple):
    """The cache key of a token: requests with equal keys get the same token.

    Attributes:
        cae: ``cae`` if the client supports Continuous Access Evaluation and the source issues
            different tokens to such clients; otherwise empty.
    """

    source: str
    endpoint: str
    selector: str = ""
    identity: str = ""
    resource: str = ""
    claims: str = ""
    cae: str = ""


def key_for(source: Source, identity: Identity, resource: str, *, cae: bool = False) -> Key:
    """Return the cache key of a token; services compare identities case-insensitively."""
    selector, value = source.resolve(identity)
    kind = "cae" if cae and source.knows_cae else ""
    return Key(source.name, source.key_endpoint, selector, ascii_lower(value), resource, cae=kind)
