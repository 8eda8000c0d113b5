"""Tokens as azure-core's clients take them.

Importing azure-core takes most of the time that a short script runs. So where nobody has done it
yet, tokens are of types that look like azure-core's to everybody, ``isinstance`` included.
"""

from __future__ import annotations

import sys

from .._platform.fork import load
from .._platform.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from azure.core.credentials import AccessToken, AccessTokenInfo

    from .._core.token import Token


def access_tokens_of(token: Token) -> tuple[AccessToken, AccessTokenInfo]:
    """``token`` as an `AccessToken` and as an `AccessTokenInfo`; their reprs hide it."""
    if "azure.core.credentials" in sys.modules:
        forms: tuple[AccessToken, AccessTokenInfo] = _azure_types().access_tokens_of(token)
        return forms
    likenesses: Any = (
        AccessTokenLikeness(token.value, token.expires_on),
        AccessTokenInfoLikeness(token.value, token.expires_on, token.token_type, token.refresh_on),
    )
    return likenesses  # type: ignore[no-any-return]


class _Fields(NamedTuple):
    token: str
    expires_on: int


class AccessTokenLikeness(_Fields):
    """An `AccessToken` that is made without azure-core."""

    __slots__ = ()

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """What ``isinstance`` goes by. Who asks it has loaded azure-core."""
        return _azure_types().QuietAccessToken

    def __repr__(self) -> str:
        return f"AccessToken(token=<hidden>, expires_on={self.expires_on})"

    def __reduce__(self) -> tuple[Any, ...]:
        return self.__class__, (self.token, self.expires_on)


class AccessTokenInfoLikeness:
    """An `AccessTokenInfo` that is made without azure-core."""

    def __init__(self, token: str, expires_on: int, token_type: str, refresh_on: int) -> None:
        self.token = token
        self.expires_on = expires_on
        self.token_type = token_type
        self.refresh_on = refresh_on

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """As for `AccessTokenLikeness`."""
        return _azure_types().QuietAccessTokenInfo

    def __repr__(self) -> str:
        return (
            f"AccessTokenInfo(token=<hidden>, expires_on={self.expires_on}, "
            f"token_type={self.token_type!r}, refresh_on={self.refresh_on})"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _azure_types().info_of, tuple(vars(self).values())


def _azure_types() -> Any:
    return load("imds_identity._azure_core.access_token_types")
