"""``tags`` of the old api-versions: ``name:value;name:value``."""

from __future__ import annotations


def read_tags(written: str) -> dict[str, str]:
    """The tags that ``written`` lists, by name.

    The form is ambiguous. A part without a colon is taken for the rest of the value before it,
    which had a semicolon in it; a value's further colons belong to it.
    """
    tags: dict[str, str] = {}
    last = None
    for part in written.split(";"):
        name, colon, value = part.partition(":")
        if colon and name:
            last = name
            tags[name] = value
        elif last is not None:
            tags[last] += f";{part}"
    return tags
