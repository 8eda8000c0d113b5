"""How JSON of the metadata service becomes typed objects, by what each field declares of itself.

The service writes every primitive as a string and what is missing as an empty string. One odd leaf
must not make a whole document useless: a leaf that does not read as its type is None, and `raw`
still has it. Only a wrong shape, such as a list where an object belongs, is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from ..._core.failure import Malformed, sanitize

if TYPE_CHECKING:
    from typing_extensions import Self

Reader: TypeAlias = Callable[[Any, str], Any]
"""Gives the value of a JSON element, which lies at this path of the document."""

_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,18}")
_MAC_ADDRESS = re.compile(r"[0-9A-Fa-f]{12}")
_FLAGS = {"true": True, "false": False}
_DEEPEST_LIST = 10_000

N = TypeVar("N", bound="Node")


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """An object of the document. It is false if nothing is set in it.

    Attributes:
        raw: the object as the service wrote it, unknown fields included.
    """

    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)

    def __bool__(self) -> bool:
        return any(getattr(self, each.name) for each in fields(self) if each.metadata)

    @property
    def extra(self) -> dict[str, Any]:
        """Fields that this version of the library does not know, as the service wrote them."""
        known = {each.metadata["json"] for each in fields(self) if each.metadata}
        return {name: value for name, value in self.raw.items() if name not in known}

    @classmethod
    def parse(cls, document: Any, path: str = "") -> Self:
        """The object that ``document`` describes.

        Args:
            document: JSON, as ``json.loads`` gives it.
            path: where it lies, for messages.

        Raises:
            Malformed: if it is no object, or something in it has the wrong shape.
        """
        if is_empty(document):
            return cls()
        if not isinstance(document, Mapping):
            raise wrong_shape(document, path, "an object")
        values = {
            each.name: each.metadata["read"](document[name], f"{path}/{name}")
            for each in fields(cls)
            if each.metadata and (name := each.metadata["json"]) in document
        }
        return cls(raw=document, **values)


def is_empty(value: object) -> bool:
    """Whether ``value`` says nothing, in whichever shape: tools that rewrite JSON change that."""
    return value is None or (isinstance(value, str | list | tuple | dict) and not value)


def wrong_shape(value: object, path: str, due: str) -> Malformed:
    """What is wrong with a document that has ``value`` where ``due`` belongs."""
    where = sanitize(path) or "the document"
    return Malformed(f"{where} is a JSON {type(value).__name__} where {due} was due")


def text(json: str, *, shown: bool = True) -> Any:
    """A field that is text; an empty one is None. What is not ``shown`` stays out of the repr."""
    return _leaf(json, as_text, shown=shown)


def number(json: str) -> Any:
    """A field that is a whole number."""
    return _leaf(json, as_number)


def flag(json: str) -> Any:
    """A field that is true or false."""
    return _leaf(json, as_flag)


def mac(json: str) -> Any:
    """A field that is the address of a network interface, shown as ``00:0d:3a:00:00:04``."""
    return _leaf(json, as_mac_address)


def field_of(json: str, read: Reader, default: Any = None) -> Any:
    """A field that has a reader of its own."""
    return field(default=default, metadata={"json": json, "read": read})


def node(json: str, cls: type[N]) -> Any:
    """A field that is an object, empty where the document has none."""
    return field(default_factory=cls, metadata={"json": json, "read": cls.parse})


def nodes(json: str, cls: type[N]) -> Any:
    """A field that is a list of objects, empty where the document has none."""

    def read(value: Any, path: str) -> tuple[N, ...]:
        return tuple(cls.parse(item, f"{path}/{index}") for index, item in list_of(value, path))

    return field(default=(), metadata={"json": json, "read": read})


def list_of(value: Any, path: str) -> list[tuple[int, Any]]:
    """The items of a JSON list, numbered.

    Raises:
        Malformed: if it is none, or one without end.
    """
    if is_empty(value):
        return []
    if not isinstance(value, list | tuple):
        raise wrong_shape(value, path, "a list")
    if len(value) > _DEEPEST_LIST:
        raise Malformed(f"{sanitize(path)} has {len(value)} items; {_DEEPEST_LIST} are the most")
    return list(enumerate(value))


def as_text(value: object, path: str = "") -> str | None:
    """Text; numbers and truth values are written as the service writes them."""
    del path
    if isinstance(value, bool):
        return str(value).lower()
    try:
        return (str(value) or None) if isinstance(value, str | int | float) else None
    except ValueError:  # Python writes no numbers of thousands of digits
        return None


def as_number(value: object, path: str = "") -> int | None:
    """A whole number, which the service writes as a string."""
    match = _WHOLE_NUMBER.fullmatch((as_text(value, path) or "").strip())
    return int(match[0]) if match else None


def as_flag(value: object, path: str = "") -> bool | None:
    """A truth value, which the service writes as a string."""
    return _FLAGS.get((as_text(value, path) or "").strip().lower())


def as_mac_address(value: object, path: str = "") -> str | None:
    """A MAC address with its colons; anything else as it is."""
    written = as_text(value, path)
    digits = (written or "").replace(":", "").replace("-", "")
    if not _MAC_ADDRESS.fullmatch(digits):
        return written
    return ":".join(digits[i : i + 2] for i in range(0, 12, 2)).lower()


def _leaf(json: str, read: Reader, *, shown: bool = True) -> Any:
    return field(default=None, repr=shown, metadata={"json": json, "read": read})
