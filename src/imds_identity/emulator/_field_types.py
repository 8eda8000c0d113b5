"""The types of dataclass fields, read from their annotations.

Code, files, flags and forms validate a field by the one annotation.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from inspect import signature
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_T = TypeVar("_T")
FieldTypes = tuple[type, ...]
_BOOLEANS = {"true": True, "on": True, "false": False, "off": False}
_SCALARS = frozenset({bool, int, float, str})
_LARGEST = 2**53  # a larger integer would fail later, when a float is added


@functools.cache
def field_types(cls: Any) -> Mapping[str, FieldTypes]:
    """Return the types that each field of a dataclass accepts, by the field's name."""
    hints = get_type_hints(cls)
    return {field.name: _types(hints[field.name]) for field in dataclasses.fields(cls)}


@functools.cache
def _optional(cls: Any) -> frozenset[str]:
    hints = get_type_hints(cls)
    return frozenset(name for name in hints if NoneType in get_args(hints[name]))


def _types(hint: Any) -> FieldTypes:
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return tuple(each for part in get_args(hint) for each in _types(part))
    if origin is Literal:
        return (str,)
    if hint is NoneType:
        return ()
    if hint is float:
        return (int, float)
    return (origin or hint,)


def has_type(value: object, types: FieldTypes) -> bool:
    """Return whether a value has one of the types.

    A boolean is not a number here, and neither a string nor a table is a list.
    """
    for strict in (bool, str, Mapping):
        if isinstance(value, strict):
            return strict in types
    return isinstance(value, types)


def is_scalar(types: FieldTypes) -> bool:
    """Return whether a single word of text can express such a value."""
    return not _SCALARS.isdisjoint(types)


def describe_types(types: FieldTypes) -> str:
    """Return a description of the types for messages."""
    if str in types and Mapping in types:
        return "a table or a string"
    if str in types:
        return "a number or a string" if float in types else "a string"
    for each, description in _DESCRIPTIONS:
        if each in types:
            return description
    return "a value of another type"


_DESCRIPTIONS = (
    (bool, "true or false"),
    (float, "a number"),
    (int, "a whole number"),
    (Mapping, "a table"),
    (list, "a list of tables"),
    (Iterable, "a list"),
)


class UnknownNameError(ValueError):
    """There is no attribute with this name; the message has the nearest one."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        names = list(known)
        hint = did_you_mean(name, names) or f" The attributes are {', '.join(names)}."
        super().__init__(f"There is no attribute {name!r}.{hint}")
        self.name = name


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is nearest to a wrong one; None if none is near."""
    return next(iter(get_close_matches(name.lower(), list(known), 1, 0.7)), None)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a question with the `nearest` name, or an empty string."""
    near = nearest(name, known)
    return f" Did you mean {near}?" if near else ""


def check_names(what: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise TypeError with the nearest known name if one that is given is not known."""
    names = set(known)
    for name in given:
        if name not in names:
            raise TypeError(f"{what} has no option {name!r}.{did_you_mean(name, names)}")


def named_attributes(cls: type[_T]) -> type[_T]:
    """Let the constructor of a dataclass name the nearest attribute for a misspelled one."""
    construct: Any = cls.__init__

    @functools.wraps(construct)
    def checked(self: Any, *args: Any, **attributes: Any) -> None:
        check_names(cls.__name__, attributes, signature(construct).parameters)
        construct(self, *args, **attributes)

    cls.__init__ = checked  # type: ignore[method-assign]
    return cls


def build(cls: Callable[..., _T], values: Mapping[str, Any]) -> _T:
    """Build a dataclass; UnknownNameError or another ValueError if the values are not valid."""
    known = field_types(cls)
    for name in values:
        if name not in known:
            raise UnknownNameError(name, known)
    return cls(**values)


def validate_fields(instance: DataclassInstance, prefix: str = "") -> None:
    """Raise ValueError if a field has a value of the wrong type, or a number that is too large.

    The message lacks the value if the field is not part of the repr.
    """
    cls = type(instance)
    types, optional = field_types(cls), _optional(cls)
    for field in dataclasses.fields(instance):
        value = getattr(instance, field.name)
        if value is None and field.name in optional:
            continue
        is_usable = math.isfinite(value) if isinstance(value, float) else not _is_large(value)
        if not (is_usable and has_type(value, types[field.name])):
            expected = describe_types(types[field.name])
            found = f", not {value!r}" if field.repr else ""
            raise ValueError(f"{prefix}{field.name} must be {expected}{found}.")


def _is_large(value: object) -> bool:
    return isinstance(value, int) and abs(value) > _LARGEST


def parse_value(text: str, types: FieldTypes) -> bool | float | str:
    """Parse the text of a flag, form or variable; ValueError if it has none of the types."""
    if bool in types:
        if text.lower() not in _BOOLEANS:
            raise ValueError(text)
        return _BOOLEANS[text.lower()]
    if int in types and text.lstrip("-").isdecimal():
        return int(text)
    if float in types and str not in types:
        return float(text)
    if str not in types:
        raise ValueError(text)
    return text
