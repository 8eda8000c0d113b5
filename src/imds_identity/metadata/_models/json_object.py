"""The base class of typed documents, which declare their JSON fields.

The service writes every primitive as a string, and missing values as empty strings. One unexpected
leaf must not make a whole document useless: a leaf that cannot be converted is None, and `raw`
still has it. Only a wrong structure, such as a list in place of an object, is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, TypeVar

from ..._core.failure import Malformed, sanitize

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")
Converter: TypeAlias = Callable[[object, str], T]  # of a JSON value and its path in the document

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_MAC_ADDRESS = re.compile(r"[0-9A-Fa-f]{12}")
_BOOLEANS = {"true": True, "false": False}
_MAX_ITEMS = 10_000

N = TypeVar("N", bound="JsonObject")


class _WithRaw:
    # Not a field: dataclasses.asdict would return it for each object, with its secrets.
    __slots__ = ("raw",)
    raw: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JsonObject(_WithRaw):
    """An object of a document. It is false if none of its fields is set.

    `dataclasses.asdict` returns typed values only, without `raw` and without `SECRETS`.

    Attributes:
        raw: the object as the service wrote it, unknown fields included.
    """

    SECRETS: ClassVar[frozenset[str]] = frozenset()
    """JSON names of properties that may be secret, and are therefore not fields."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "raw", {})

    def __bool__(self) -> bool:
        return any(self._values().values())

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self.raw == other.raw and self._values() == other._values()

    def __hash__(self) -> int:
        return hash(tuple(self._values().values()))

    def __reduce__(self) -> tuple[object, ...]:
        return partial(self.with_raw, self.raw, **self._values()), ()

    def _values(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @classmethod
    def names(cls) -> frozenset[str]:
        """Return the JSON names of the known fields."""
        return cls.SECRETS | {each.metadata["json"] for each in fields(cls)}

    @property
    def extra(self) -> dict[str, Any]:
        """Fields that this version of the library does not know, as the service wrote them."""
        known = self.names()
        return {name: value for name, value in self.raw.items() if name not in known}

    @classmethod
    def with_raw(cls, raw: Mapping[str, Any], **values: Any) -> Self:
        """Create the object from its typed values."""
        created = cls(**values)
        object.__setattr__(created, "raw", raw)
        return created

    @classmethod
    def parse(cls, document: object, path: str = "") -> Self:
        """Create the object from JSON."""
        if is_empty(document):
            return cls()
        if not isinstance(document, Mapping):
            raise wrong_type(document, path, "an object")
        values = {
            each.name: each.metadata["convert"](document[name], f"{path}/{name}")
            for each in fields(cls)
            if (name := each.metadata["json"]) in document
        }
        return cls.with_raw(document, **values)


def is_empty(value: object) -> bool:
    """Return whether ``value`` is null or empty; its type does not matter."""
    return value is None or (isinstance(value, str | list | tuple | dict) and not value)


def wrong_type(value: object, path: str, expected: str) -> Malformed:
    """Return the failure for a document with ``value`` in place of ``expected``."""
    where = sanitize(path) or "the document"
    return Malformed(f"{where} is a JSON {type(value).__name__}; expected {expected}")


def text_field(json: str) -> str | None:
    """Declare a text field; an empty text is None."""
    return converted_field(json, to_text, None)


def int_field(json: str) -> int | None:
    """Declare an integer field."""
    return converted_field(json, to_int, None)


def bool_field(json: str) -> bool | None:
    """Declare a boolean field."""
    return converted_field(json, to_bool, None)


def converted_field(json: str, convert: Converter[T], default: T) -> T:
    """Declare a field with its own converter."""
    return field(default=default, metadata={"json": json, "convert": convert})


def object_field(json: str, cls: type[N]) -> N:
    """Declare a field for an object, which is empty where the document has none."""
    return field(default_factory=cls, metadata={"json": json, "convert": cls.parse})


def list_field(json: str, cls: type[N]) -> tuple[N, ...]:
    """Declare a field for a list of objects, which is empty where the document has none."""

    def convert(value: object, path: str) -> tuple[N, ...]:
        return tuple(cls.parse(item, f"{path}/{index}") for index, item in list_items(value, path))

    return converted_field(json, convert, ())


def list_items(value: object, path: str) -> list[tuple[int, object]]:
    """Return the items of a JSON list with their indexes."""
    if is_empty(value):
        return []
    if not isinstance(value, list | tuple):
        raise wrong_type(value, path, "a list")
    if len(value) > _MAX_ITEMS:
        raise Malformed(f"{sanitize(path)} has {len(value)} items; at most {_MAX_ITEMS} are read")
    return list(enumerate(value))


def to_text(value: object, path: str = "") -> str | None:
    """Convert a leaf to text; numbers and booleans as the service writes them."""
    del path
    if isinstance(value, bool):
        return str(value).lower()
    try:
        return (str(value) or None) if isinstance(value, str | int | float) else None
    except ValueError:  # Python does not format integers of thousands of digits
        return None


def to_int(value: object, path: str = "") -> int | None:
    """Convert a leaf to an integer."""
    match = _INTEGER.fullmatch((to_text(value, path) or "").strip())
    return int(match[0]) if match else None


def to_bool(value: object, path: str = "") -> bool | None:
    """Convert a leaf to a boolean."""
    return _BOOLEANS.get((to_text(value, path) or "").strip().lower())


def to_mac_address(value: object, path: str = "") -> str | None:
    """Convert 12 hexadecimal digits to ``00:0d:3a:00:00:04``; leave other text unchanged."""
    text = to_text(value, path)
    digits = (text or "").replace(":", "").replace("-", "")
    if not _MAC_ADDRESS.fullmatch(digits):
        return text
    return ":".join(digits[i : i + 2] for i in range(0, 12, 2)).lower()
