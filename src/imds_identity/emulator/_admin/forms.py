"""The forms of the admin page, and the errors in their fields."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import parse_qsl

from .._field_types import UnknownNameError, describe_types, field_types, parse_value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_T = TypeVar("_T")
_MAX_FIELDS = 50


class FormError(ValueError):
    """A form that is not valid; an error of the whole form has an empty name."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__("; ".join(errors.values()))
        self.errors = errors


def parse_form(body: bytes) -> dict[str, str]:
    """Return the fields of a form that are not empty."""
    return dict(parse_qsl(body.decode(), max_num_fields=_MAX_FIELDS))


def build_from_form(cls: Callable[..., _T], fields: Mapping[str, str]) -> _T:
    """Build a dataclass from the fields of a form; FormError if they are not valid."""
    types = field_types(cls)
    errors: dict[str, str] = {}
    values: dict[str, object] = {}
    for name, text in fields.items():
        if name not in types:
            raise FormError({"": str(UnknownNameError(name, types))})
        try:
            values[name] = parse_value(text.strip(), types[name])
        except ValueError:
            errors[name] = f"This must be {describe_types(types[name])}."
    if errors:
        raise FormError(errors)
    try:
        return cls(**values)
    except ValueError as error:
        raise FormError({mentioned(str(error), types): str(error)}) from None


def mentioned(message: str, names: Mapping[str, object]) -> str:
    """Return the first field that a message mentions, or an empty string."""
    words = re.findall(r"\w+", message)
    return next((word for word in words if word in names), "")
