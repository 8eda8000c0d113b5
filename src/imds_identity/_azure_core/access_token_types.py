"""Tokens in azure-core's own types, but with a repr that may be logged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from azure.core.credentials import AccessToken, AccessTokenInfo

if TYPE_CHECKING:
    from .._core.token import Token


class QuietAccessToken(AccessToken):
    """An `AccessToken` whose repr hides the token."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"AccessToken(token=<hidden>, expires_on={self.expires_on})"


class QuietAccessTokenInfo(AccessTokenInfo):
    """An `AccessTokenInfo` whose repr hides the token."""

    def __repr__(self) -> str:
        return (
            f"AccessTokenInfo(token=<hidden>, expires_on={self.expires_on}, "
            f"token_type={self.token_type!r}, refresh_on={self.refresh_on})"
        )


def info_of(token: str, expires_on: int, token_type: str, refresh_on: int) -> AccessTokenInfo:
    """An `AccessTokenInfo` by position, as a pickle has it."""
    return QuietAccessTokenInfo(token, expires_on, token_type=token_type, refresh_on=refresh_on)


def access_tokens_of(token: Token) -> tuple[AccessToken, AccessTokenInfo]:
    """``token`` in both forms."""
    return (
        QuietAccessToken(token.value, token.expires_on),
        info_of(token.value, token.expires_on, token.token_type, token.refresh_on),
    )
