"""``NamedTuple`` without `typing`, whose import takes a tenth of ``imds-identity token``'s time.

The modules through which a token at hand comes do without it: they import it for type checkers
alone, which take ``TYPE_CHECKING = False`` for true.
"""

from __future__ import annotations

from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NamedTuple
else:

    class _Fields(type):
        """Makes of a class's annotations a tuple whose items have their names."""

        def __new__(
            cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]
        ) -> type[tuple[Any, ...]]:
            if not bases:
                return super().__new__(cls, name, bases, namespace)
            fields = namespace.get("__annotations__", {})
            defaults = [namespace.pop(field) for field in fields if field in namespace]
            plain = namedtuple(name, fields, defaults=defaults)  # noqa: PYI024
            return type(name, (plain,), {"__slots__": (), **namespace})

    class NamedTuple(metaclass=_Fields):
        """A base of tuples whose items have names, as `typing.NamedTuple` is."""


__all__ = ["NamedTuple"]
