"""The page's forms, and what was wrong with one, field by field."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from .._kinds import from_text, in_words, kinds_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MOST_FIELDS = 50


class BadFormError(ValueError):
    """A form that makes no sense.

    Attributes:
        errors: what is wrong, by field; the whole form's under an empty name.
    """

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__("; ".join(errors.values()))
        self.errors = errors


def fields_of(body: bytes) -> dict[str, str]:
    """The fields of a form that were filled in."""
    return dict(parse_qsl(body.decode(), max_num_fields=_MOST_FIELDS))


def made(make: Callable[..., Any], fields: Mapping[str, str]) -> Any:
    """What a dataclass makes of the fields of a form.

    Args:
        make: the dataclass.
        fields: its attributes as texts.

    Raises:
        BadFormError: if it makes nothing of them; it says which are wrong.
    """
    kinds = kinds_of(make)
    errors: dict[str, str] = {}
    values: dict[str, Any] = {}
    for name, text in fields.items():
        if name not in kinds:
            raise BadFormError({"": f"There is no field {name!r}."})
        try:
            values[name] = from_text(text.strip(), kinds[name])
        except ValueError:
            errors[name] = f"This must be {in_words(kinds[name])}."
    if errors:
        raise BadFormError(errors)
    try:
        return make(**values)
    except ValueError as error:
        raise BadFormError({_named(str(error), kinds): str(error)}) from None


def _named(message: str, names: Mapping[str, Any]) -> str:
    """The field that a message speaks of; empty if it speaks of none."""
    spoken = re.findall(r"\w+", message)
    return next((word for word in spoken if word in names), "")
