"""The resources that tokens can be had for."""

from __future__ import annotations

import functools
from fnmatch import fnmatchcase
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def is_known(resource: str, more: Iterable[str] = ()) -> bool:
    """Whether a tenant has a service principal for a resource.

    Args:
        resource: what a token is asked for; a slash at its end and case make no difference.
        more: resources that this tenant knows beside those of every tenant; ``*`` stands for any
            text.
    """
    asked = resource.lower().removesuffix("/")
    exact, patterns = _in_every_tenant()
    if asked in exact:
        return True
    named = (pattern.lower().removesuffix("/") for pattern in more)
    return any(fnmatchcase(asked, pattern) for pattern in (*patterns, *named))


@functools.cache
def _in_every_tenant() -> tuple[frozenset[str], tuple[str, ...]]:
    text = files(__package__).joinpath("resources.txt").read_text("utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    patterns = tuple(line for line in lines if "*" in line)
    return frozenset(lines) - frozenset(patterns), patterns
