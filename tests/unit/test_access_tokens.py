"""Tokens have azure-core's types, or plain types if azure-core is not imported."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from typing import Any

import pytest
from azure.core.credentials import AccessToken, AccessTokenInfo

from imds_identity._azure_core.access_token import (
    PlainAccessToken,
    PlainAccessTokenInfo,
    access_tokens_of,
)
from imds_identity._core.token import Token

TOKEN = Token("s3cret", "another type", 5, 3, 0.0, 0.0, 0.0)
TOKENS = (
    *access_tokens_of(TOKEN),
    PlainAccessToken("s3cret", 5),
    PlainAccessTokenInfo("s3cret", 5, token_type="another type", refresh_on=3),
)


def test_tokens_have_azure_core_types_if_azure_core_is_imported() -> None:
    token, info = access_tokens_of(TOKEN)
    assert isinstance(token, AccessToken)
    assert isinstance(info, AccessTokenInfo)
    assert token == AccessToken("s3cret", 5)
    assert (info.token, info.expires_on) == ("s3cret", 5)
    assert (info.token_type, info.refresh_on) == ("another type", 3)
    assert type(token) is type(access_tokens_of(TOKEN)[0])


def test_tokens_have_plain_types_and_nothing_is_imported_without_azure_core() -> None:
    script = """
import sys
from imds_identity._core.token import Token
from imds_identity._azure_core.access_token import access_tokens_of
before = set(sys.modules)
token, info = access_tokens_of(Token("s3cret", "Bearer", 5, 3, 0.0, 0.0, 0.0))
assert set(sys.modules) == before
print(token == ("s3cret", 5), token.token, token.expires_on)
print(info.token, info.expires_on, info.token_type, info.refresh_on)
from azure.core.credentials import AccessToken, AccessTokenInfo
before = set(sys.modules)
token, info = access_tokens_of(Token("s3cret", "Bearer", 5, 3, 0.0, 0.0, 0.0))
assert set(sys.modules) == before
print(isinstance(token, AccessToken), isinstance(info, AccessTokenInfo))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines() == ["True s3cret 5", "s3cret 5 Bearer 3", "True True"], done


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize(
    "copy_token",
    [
        lambda token: token,
        copy.copy,
        copy.deepcopy,
        lambda token: pickle.loads(pickle.dumps(token)),
    ],
)
def test_repr_of_a_token_and_its_copies_hides_the_value(token: Any, copy_token: Any) -> None:
    copied = copy_token(token)
    assert type(copied) is type(token)
    assert (copied.token, copied.expires_on) == ("s3cret", 5)
    assert "s3cret" not in f"{copied!r} {copied}"
    assert repr(copied) == repr(token)


def test_plain_types_have_the_fields_and_reprs_of_azure_core_types() -> None:
    token, info, plain_token, plain_info = TOKENS
    assert repr(token) == repr(plain_token)
    assert repr(info) == repr(plain_info)
    assert tuple(token) == tuple(plain_token)
    assert vars(info) == vars(plain_info)
