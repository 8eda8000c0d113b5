"""The selected identity: system-assigned, or user-assigned with one selector."""

from __future__ import annotations

from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_LONGEST = 2048
# Frames between the warning and the line that creates a credential.
_CALLER = 5
_ASCII_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
_QUERY_NAMES = {"client_id": "client_id", "object_id": "object_id", "resource_id": "msi_res_id"}
_CONFIG_NAMES = {
    **{name: name for name in _QUERY_NAMES},
    "msi_res_id": "resource_id",
    "mi_res_id": "resource_id",
}


class Identity(NamedTuple):
    """A managed identity, as selected in a token request.

    Attributes:
        selector: ``client_id``, ``object_id`` or ``resource_id``; empty for system-assigned.
        value: the value of the selector, as the caller passed it.
    """

    selector: str = ""
    value: str = ""

    @property
    def query(self) -> dict[str, str]:
        """The query parameter for this selector in IMDS and HIMDS."""
        return {_QUERY_NAMES[self.selector]: self.value} if self.selector else {}

    @property
    def setting(self) -> dict[str, str]:
        """The keyword argument of a credential that selects this identity."""
        return {self.selector: self.value} if self.selector else {}

    def __str__(self) -> str:
        return f"{self.selector} {self.value!r}" if self.selector else "system-assigned identity"


SYSTEM_ASSIGNED = Identity()


def ascii_lower(value: str) -> str:
    """Return ``value`` with ASCII letters in lower case, as services compare identities.

    Unlike ``str.lower``, which turns the Kelvin sign into a ``k``.
    """
    return value.translate(_ASCII_LOWER)


def parse_identity(
    *,
    client_id: str | None = None,
    object_id: str | None = None,
    resource_id: str | None = None,
    identity_config: Mapping[str, str | None] | None = None,
) -> Identity:
    """Return the identity that the arguments select; None and ``""`` select nothing.

    Raise ValueError for more than one selector, for only an unknown key in ``identity_config``, or
    for a value that cannot name an identity.

    An ignored selector would return another identity's token, so an invalid one is an error. An
    unknown key next to a valid selector causes a warning.
    """
    arguments = {"client_id": client_id, "object_id": object_id, "resource_id": resource_id}
    given: list[tuple[str, str, object]]
    given = [(name, name, value) for name, value in arguments.items() if not _is_nothing(value)]
    unknown = []
    for name, value in _items(identity_config):
        if name in _CONFIG_NAMES:
            given.append((f"identity_config[{name!r}]", _CONFIG_NAMES[name], value))
        else:
            unknown.append(name)
    if unknown:
        _reject_or_warn(unknown, harmless=bool(given))
    if not given:
        return SYSTEM_ASSIGNED
    if len(given) > 1:
        raise ValueError(
            f"an identity is selected by at most one of client_id, object_id and resource_id, "
            f"but {' and '.join(label for label, _, _ in given)} were given"
        )
    [(label, selector, value)] = given
    return Identity(selector, _checked(label, value))


def _is_nothing(value: object) -> bool:
    return value is None or value == ""


def _reject_or_warn(unknown: list[str], *, harmless: bool) -> None:
    message = (
        f"identity_config has an unknown key {' and '.join(map(repr, unknown))}; "
        f"use one of {', '.join(sorted(_CONFIG_NAMES))}"
    )
    if not harmless:
        raise ValueError(message)
    import warnings

    warnings.warn(f"{message}; it is not used", UserWarning, stacklevel=_CALLER)


def _items(identity_config: object) -> list[tuple[str, object]]:
    if identity_config is None:
        return []
    try:
        items = list(identity_config.items())  # type: ignore[attr-defined]
    except AttributeError:
        raise ValueError(
            "identity_config is a mapping such as {'client_id': …}, "
            f"not a {type(identity_config).__name__}"
        ) from None
    return [(name, value) for name, value in items if not _is_nothing(value)]


def _checked(label: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(
            f"{label} must be a non-empty string, not {value!r}; "
            "omit it to use the system-assigned identity"
        )
    if not value.isprintable():
        raise ValueError(f"{label} contains invalid characters: {value!r}")
    if len(value) > _LONGEST:
        raise ValueError(f"{label} must have at most {_LONGEST} characters")
    return value.strip()
