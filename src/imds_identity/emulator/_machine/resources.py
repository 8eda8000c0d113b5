"""The resources that tokens are issued for."""

from __future__ import annotations

import functools
from fnmatch import fnmatchcase
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def is_known_resource(resource: str, additional: Iterable[str] = ()) -> bool:
    """Return whether all tenants know a resource, or an ``additional`` pattern matches it."""
    normalized = resource.lower().removesuffix("/")
    exact, patterns = _known_in_every_tenant()
    if normalized in exact:
        return True
    own_patterns = (pattern.lower().removesuffix("/") for pattern in additional)
    return any(fnmatchcase(normalized, pattern) for pattern in (*patterns, *own_patterns))


@functools.cache
def _known_in_every_tenant() -> tuple[frozenset[str], tuple[str, ...]]:
    text = files(__package__).joinpath("resources.txt").read_text("utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    patterns = tuple(line for line in lines if "*" in line)
    return frozenset(lines) - frozenset(patterns), patterns
