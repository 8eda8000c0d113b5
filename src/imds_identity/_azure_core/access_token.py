"""Tokens in the types that azure-core's clients take, with reprs that hide them.

Importing azure-core takes most of the time that a short script runs. Tokens
therefore have its types if the program has imported it, otherwise plain types with the same fields.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken, AccessTokenInfo

    from .._core.token import Token


class PlainAccessToken(NamedTuple):
    """The fields of azure-core's ``AccessToken``."""

    token: str
    expires_on: int

    def __repr__(self) -> str:
        return f"AccessToken(token=<hidden>, expires_on={self.expires_on})"


class PlainAccessTokenInfo:
    """The fields of azure-core's ``AccessTokenInfo``."""

    def __init__(self, token: str, expires_on: int, *, token_type: str, refresh_on: int) -> None:
        self.token = token
        self.expires_on = expires_on
        self.token_type = token_type
        self.refresh_on = refresh_on

    def __repr__(self) -> str:
        return _info_repr(self)


def access_tokens_of(token: Token) -> tuple[AccessToken, AccessTokenInfo]:
    """Return ``token`` as an ``AccessToken`` and as an ``AccessTokenInfo``."""
    credentials = sys.modules.get("azure.core.credentials")
    # While another thread imports it, it may not have its types yet.
    has_types = hasattr(credentials, "AccessToken") and hasattr(credentials, "AccessTokenInfo")
    token_type, info_type = _azure_types() if has_types else _PLAIN
    return (
        token_type(token.value, token.expires_on),
        info_type(
            token.value,
            token.expires_on,
            token_type=token.token_type,
            refresh_on=token.refresh_on,
        ),
    )


def _azure_types() -> tuple[Any, Any]:
    """Return subclasses of azure-core's types, which are created once."""
    if not _AZURE:
        # Not at module level: that would import azure-core, or need a module imported by a fetch.
        from azure.core.credentials import AccessToken, AccessTokenInfo

        class HiddenAccessToken(AccessToken):
            __slots__ = ()
            __repr__ = PlainAccessToken.__repr__

            def __reduce__(self) -> tuple[object, ...]:
                return _restored_token, tuple(self)

        class HiddenAccessTokenInfo(AccessTokenInfo):
            __repr__ = _info_repr

            def __reduce__(self) -> tuple[object, ...]:
                fields = self.token, self.expires_on, self.token_type, self.refresh_on
                return _restored_info, fields

        _AZURE.setdefault("types", (HiddenAccessToken, HiddenAccessTokenInfo))
    return _AZURE["types"]


def _info_repr(info: Any) -> str:
    return (
        f"AccessTokenInfo(token=<hidden>, expires_on={info.expires_on}, "
        f"token_type={info.token_type!r}, refresh_on={info.refresh_on})"
    )


def _restored_token(token: str, expires_on: int) -> AccessToken:
    restored: AccessToken = _azure_types()[0](token, expires_on)
    return restored


def _restored_info(
    token: str, expires_on: int, token_type: str, refresh_on: int
) -> AccessTokenInfo:
    restored: AccessTokenInfo = _azure_types()[1](
        token, expires_on, token_type=token_type, refresh_on=refresh_on
    )
    return restored


_PLAIN: tuple[Any, Any] = PlainAccessToken, PlainAccessTokenInfo
_AZURE: dict[str, tuple[Any, Any]] = {}
