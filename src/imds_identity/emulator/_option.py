"""Options: their description, checks of their values, and a decorator for their parameters."""

from __future__ import annotations

import functools
import inspect
import sys
from typing import TYPE_CHECKING, Concatenate, NamedTuple, ParamSpec, TypeVar

from ._field_types import check_names

if TYPE_CHECKING:
    from collections.abc import Callable

_P = ParamSpec("_P")
_S = TypeVar("_S")
_T = TypeVar("_T")
SAME_AS_PARAMETER = object()


class Option(NamedTuple):
    """The documentation of an option, and its form on the command line and in the file."""

    help: str
    metavar: str = ""
    flag: str | None = None  # by default it follows from the name; empty if there is none
    switch: tuple[str, str] = ("", "")  # a second flag without a value, with its help
    key: str | None = None  # the key in the file; by default the name, empty if there is none
    command_default: object = SAME_AS_PARAMETER
    flag_help: str = ""  # the help of the flag, if it differs


def with_options_of(
    settings: Callable[_P, _T],
) -> Callable[[Callable[[_S, _T], None]], Callable[Concatenate[_S, _P], None]]:
    """Replace a constructor's ``settings`` parameter with the fields of a dataclass."""

    def decorate(construct: Callable[[_S, _T], None]) -> Callable[Concatenate[_S, _P], None]:
        @functools.wraps(construct)
        def constructor(this: _S, /, *args: _P.args, **kwargs: _P.kwargs) -> None:
            check_names("Emulator", kwargs, names)
            construct(this, settings(*args, **kwargs))

        names = inspect.signature(settings).parameters.keys()
        own = list(inspect.signature(construct).parameters.values())[:1]
        options = list(inspect.signature(settings).parameters.values())
        constructor.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]
        return constructor

    return decorate


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise ValueError unless a value is one of the choices."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}.")


def check_positive(name: str, value: float) -> None:
    """Raise ValueError unless a number is above zero."""
    if not value > 0:
        raise ValueError(f"{name} must be above zero, not {value}.")


def check_items(name: str, items: tuple[object, ...], item_type: type) -> None:
    """Raise ValueError unless all items of a list have a type."""
    for item in items:
        if not isinstance(item, item_type):
            raise ValueError(  # noqa: TRY004 - callers expect ValueError
                f"{name} cannot hold {item!r}."
            )


def group_id(name: str) -> int:
    """Return the id of the group of Arc's key files; ValueError if there is none."""
    if sys.platform == "win32":
        raise ValueError("tokens_group is not supported on Windows.")
    import grp

    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise ValueError(f"tokens_group: there is no group {name!r}.") from None
