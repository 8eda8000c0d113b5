"""What makes two requests for a token the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .identity import folded

if TYPE_CHECKING:
    from .identity import Identity
    from .source import Source


class Key(NamedTuple):
    """Whose token, for what, from where, and in answer to which claims challenge."""

    source: str
    endpoint: str
    selector: str = ""
    identity: str = ""
    resource: str = ""
    claims: str = ""


def key_for(source: Source, identity: Identity, resource: str) -> Key:
    """The key of one token; services compare identities without regard to case."""
    # A workload that selects no identity is one by its environment.
    selector, value = identity if identity.selector else ("", source.client_id)
    return Key(source.name, source.endpoint, selector, folded(value), resource)
