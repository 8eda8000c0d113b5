"""The ``tags`` text of API versions before 2019-06-04: ``name:value;name:value``."""

from __future__ import annotations


def parse_tags(text: str) -> dict[str, str]:
    """Parse the tags into a mapping by name.

    The format is ambiguous. A part without a colon continues the value before it, which contained
    a semicolon. Further colons belong to the value.
    """
    tags: dict[str, str] = {}
    last = None
    for part in text.split(";"):
        name, colon, value = part.partition(":")
        if colon and name:
            last = name
            tags[name] = value
        elif last is not None:
            tags[last] += f";{part}"
    return tags
