"""Scopes, as azure-core clients name them, to the one resource that a token request names."""

from __future__ import annotations

_DEFAULT = "/.default"


def resource_of(scopes: tuple[str, ...]) -> str:
    """The resource that ``scopes`` stand for.

    ``https://vault.azure.net/.default`` and the bare ``https://vault.azure.net`` both give
    ``https://vault.azure.net``; a trailing slash of the resource is part of its name.

    Raises:
        ValueError: unless there is exactly one scope and it names a resource.
    """
    if len(scopes) != 1:
        raise ValueError(
            f"a managed identity gets a token for exactly one scope, and {len(scopes)} were given"
            + (f": {', '.join(map(repr, scopes))}" if scopes else "")
            + "; pass one such as 'https://vault.azure.net/.default'"
        )
    [scope] = scopes
    if not isinstance(scope, str):
        raise ValueError(f"a scope is a string, not {scope!r}")  # noqa: TRY004 - one error for bad scopes
    resource = scope.removesuffix(_DEFAULT)
    if not resource or not resource.isprintable() or " " in resource:
        raise ValueError(
            f"{scope!r} names no resource; pass one scope such as 'https://vault.azure.net/.default'"
        )
    return resource
