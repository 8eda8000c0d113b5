"""Tokens as azure-core clients take them, but with a repr that may be logged."""

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


def show(token: Token) -> tuple[AccessToken, AccessTokenInfo]:
    """``token`` in both of azure-core's forms."""
    return (
        QuietAccessToken(token.value, token.expires_on),
        QuietAccessTokenInfo(
            token.value,
            token.expires_on,
            token_type=token.token_type,
            refresh_on=token.refresh_on,
        ),
    )
