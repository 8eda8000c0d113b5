"""What makes two requests for a token the same."""

from __future__ import annotations

from typing import NamedTuple

from .identity import ascii_lower

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .identity import Identity
    from .source import Source


class Key(NamedTuple):
    """Whose token, for what, from where, in answer to which claims challenge, and for which client.

    Attributes:
        cae: ``cae`` if the client evaluates access continuously and the source gives another token
            to those that do; else empty.
    """

    source: str
    endpoint: str
    selector: str = ""
    identity: str = ""
    resource: str = ""
    claims: str = ""
    cae: str = ""


def key_for(source: Source, identity: Identity, resource: str, *, cae: bool = False) -> Key:
    """The key of one token; services compare identities without regard to case."""
    # A workload that selects no identity is one by its environment.
    selector, value = identity if identity.selector else ("", source.client_id)
    kind = "cae" if cae and source.knows_cae else ""
    return Key(source.name, source.endpoint, selector, ascii_lower(value), resource, cae=kind)
