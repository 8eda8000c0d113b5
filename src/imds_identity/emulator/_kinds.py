"""What kinds of value a field takes, read from its annotation.

So code, files, flags and forms agree on a field that is spelled once.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

Kinds = tuple[type, ...]
_YES_OR_NO = {"true": True, "on": True, "false": False, "off": False}
_SCALARS = frozenset({bool, int, float, str})


@functools.cache
def kinds_of(cls: Any) -> Mapping[str, Kinds]:
    """The kinds that each field of a dataclass takes, by its name."""
    hints = get_type_hints(cls)
    return {field.name: _kinds(hints[field.name]) for field in dataclasses.fields(cls)}


@functools.cache
def _optional(cls: Any) -> frozenset[str]:
    """The fields of a dataclass that may be None."""
    hints = get_type_hints(cls)
    return frozenset(name for name in hints if types.NoneType in get_args(hints[name]))


def _kinds(hint: Any) -> Kinds:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return tuple(kind for part in get_args(hint) for kind in _kinds(part))
    if origin is Literal:
        return (str,)
    if hint is types.NoneType:
        return ()
    if hint is float:
        return (int, float)
    return (origin or hint,)


def fits(value: Any, kinds: Kinds) -> bool:
    """Whether a value is of one of these kinds.

    True and false are no numbers here, and neither text nor a table is a list.
    """
    for kind in (bool, str, Mapping):
        if isinstance(value, kind):
            return kind in kinds
    return isinstance(value, kinds)


def is_scalar(kinds: Kinds) -> bool:
    """Whether one word of text can say such a value."""
    return not _SCALARS.isdisjoint(kinds)


def in_words(kinds: Kinds) -> str:
    """What a value must be, for a message."""
    if str in kinds:
        return "a number or a string" if float in kinds else "a string"
    for kind, words in _WORDS:
        if kind in kinds:
            return words
    return "another kind of value"


_WORDS = (
    (bool, "true or false"),
    (float, "a number"),
    (int, "a whole number"),
    (Mapping, "a table"),
    (list, "a list of tables"),
    (Iterable, "a list"),
)


def check_fields(instance: Any, owner: str = "") -> None:
    """Refuse a dataclass whose fields hold other kinds of value than they are declared with.

    Args:
        instance: the dataclass; its numbers must be finite.
        owner: what its fields are said to be of, as ``"A fault's "``.

    Raises:
        ValueError: if a field does; the message names it.
    """
    cls: Any = type(instance)
    kinds, optional = kinds_of(cls), _optional(cls)
    for field in dataclasses.fields(instance):
        value = getattr(instance, field.name)
        absent = value is None and field.name in optional
        endless = isinstance(value, float) and not math.isfinite(value)
        if endless or not (absent or fits(value, kinds[field.name])):
            wanted = in_words(kinds[field.name])
            raise ValueError(f"{owner}{field.name} must be {wanted}, not {value!r}.")


def from_text(text: str, kinds: Kinds) -> Any:
    """The value that a flag, a form or a variable means.

    Args:
        text: what was given.
        kinds: what it may be.

    Raises:
        ValueError: if it is none of these.
    """
    if bool in kinds:
        if text.lower() not in _YES_OR_NO:
            raise ValueError(text)
        return _YES_OR_NO[text.lower()]
    if int in kinds and text.lstrip("-").isdecimal():
        return int(text)
    if float in kinds and str not in kinds:
        return float(text)
    if str not in kinds:
        raise ValueError(text)
    return text
