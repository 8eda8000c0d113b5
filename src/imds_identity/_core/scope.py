"""Validation of scopes and claims; conversion of a scope to a resource."""

from __future__ import annotations

_DEFAULT = "/.default"
_LONGEST = 2048
_LONGEST_CLAIMS = 65536
_SUCH_AS = "pass one scope such as 'https://vault.azure.net/.default'"


def resource_of(scopes: tuple[object, ...]) -> str:
    """Return the resource of ``scopes``.

    Raise ValueError if there is not exactly one scope, or it does not name a resource.

    Both ``https://vault.azure.net/.default`` and ``https://vault.azure.net`` have the resource
    ``https://vault.azure.net``. A trailing slash is part of the resource.
    """
    if len(scopes) != 1:
        raise ValueError(f"expected exactly one scope, not {len(scopes)}; " + _SUCH_AS)
    [scope] = scopes
    if not isinstance(scope, str):
        raise ValueError(f"a scope must be a string, not a {type(scope).__name__}; {_SUCH_AS}")  # noqa: TRY004 - one error for bad scopes
    if len(scope) > _LONGEST:
        raise ValueError(f"a scope of {len(scope)} characters does not name a resource; {_SUCH_AS}")
    resource = scope.removesuffix(_DEFAULT)
    if not resource or not resource.isprintable() or " " in resource:
        raise ValueError(f"{scope!r} does not name a resource; {_SUCH_AS}")
    return resource


def claims_of(claims: object) -> str | None:
    """Return the caller's claims, or None; raise ValueError if they cannot be sent."""
    if claims is None or claims == "":
        return None
    if not isinstance(claims, str):
        raise ValueError(f"claims must be a JSON string, not a {type(claims).__name__}")  # noqa: TRY004 - one error for bad claims
    if len(claims) > _LONGEST_CLAIMS or any("\ud800" <= c <= "\udfff" for c in claims):
        raise ValueError(
            f"claims must be text of at most {_LONGEST_CLAIMS} characters: "
            "pass the claims of the service's challenge, base64-decoded"
        )
    return claims
