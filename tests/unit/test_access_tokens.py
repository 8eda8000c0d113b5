"""Tokens in azure-core's types, or in plain types where azure-core is not imported."""

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

TOKEN = Token("s3cret", "Bearer", 5, 3, 0.0, 0.0, 0.0)
FORMS = (
    *access_tokens_of(TOKEN),
    PlainAccessToken("s3cret", 5),
    PlainAccessTokenInfo("s3cret", 5, token_type="Bearer", refresh_on=3),
)


def test_where_azure_core_is_imported_tokens_are_of_its_types() -> None:
    token, info = access_tokens_of(TOKEN)
    assert isinstance(token, AccessToken)
    assert isinstance(info, AccessTokenInfo)
    assert token == AccessToken("s3cret", 5)
    assert (info.token, info.expires_on) == ("s3cret", 5)
    assert (info.token_type, info.refresh_on) == ("Bearer", 3)
    assert type(token) is type(access_tokens_of(TOKEN)[0])


def test_where_it_is_not_they_are_plain_and_nothing_is_imported() -> None:
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


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "copied", [lambda form: form, copy.copy, copy.deepcopy, lambda f: pickle.loads(pickle.dumps(f))]
)
def test_reprs_hide_the_token_also_of_copies(form: Any, copied: Any) -> None:
    copy_of_it = copied(form)
    assert type(copy_of_it) is type(form)
    assert (copy_of_it.token, copy_of_it.expires_on) == ("s3cret", 5)
    assert "s3cret" not in f"{copy_of_it!r} {copy_of_it}"
    assert repr(copy_of_it) == repr(form)


def test_the_plain_types_have_the_fields_and_reprs_of_azure_cores() -> None:
    token, info, plain_token, plain_info = FORMS
    assert repr(token) == repr(plain_token)
    assert repr(info) == repr(plain_info)
    assert tuple(token) == tuple(plain_token)
    assert vars(info) == vars(plain_info)
