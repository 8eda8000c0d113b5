"""Tokens in the types of azure-core, or in types that look like those."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from typing import Any

import pytest
from azure.core.credentials import AccessToken, AccessTokenInfo

from imds_identity._azure_core import access_token as forms
from imds_identity._azure_core import access_token_types as azure_forms
from imds_identity._core.token import Token

TOKEN = Token("s3cret", "Bearer", 5, 3, 0.0, 0.0, 0.0)
LIKENESSES = (
    forms.AccessTokenLikeness("s3cret", 5),
    forms.AccessTokenInfoLikeness("s3cret", 5, "Bearer", 3),
)
REAL = azure_forms.access_tokens_of(TOKEN)


def test_where_azure_core_is_loaded_tokens_are_of_its_types() -> None:
    token, info = forms.access_tokens_of(TOKEN)
    assert AccessToken in type(token).__mro__
    assert AccessTokenInfo in type(info).__mro__


def test_where_it_is_not_they_only_look_so_until_somebody_asks() -> None:
    script = """
import sys
from imds_identity._core.token import Token
from imds_identity._azure_core.access_token import access_tokens_of
token, info = access_tokens_of(Token("s3cret", "Bearer", 5, 3, 0.0, 0.0, 0.0))
assert not [name for name in sys.modules if name.startswith("azure")], sys.modules
from azure.core.credentials import AccessToken, AccessTokenInfo
print(isinstance(token, AccessToken), isinstance(info, AccessTokenInfo), type(token).__name__)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "True", "AccessTokenLikeness"], done.stderr


@pytest.mark.parametrize(("form", "real"), tuple(zip(LIKENESSES, REAL, strict=True)))
def test_a_likeness_is_taken_for_the_real_thing(form: Any, real: Any) -> None:
    assert isinstance(form, type(real))
    assert repr(form) == repr(real)
    assert "s3cret" not in f"{form!r} {form} {real!r}"
    for name in ("token", "expires_on", "token_type", "refresh_on"):
        assert getattr(form, name, None) == getattr(real, name, None)


def test_a_likeness_of_an_access_token_is_the_same_tuple() -> None:
    likeness: Any = LIKENESSES[0]
    assert likeness == AccessToken("s3cret", 5) == tuple(likeness)
    assert hash(likeness) == hash(AccessToken("s3cret", 5))
    assert likeness._replace(expires_on=6) == ("s3cret", 6)
    assert likeness._asdict() == {"token": "s3cret", "expires_on": 5}


@pytest.mark.parametrize("form", LIKENESSES)
@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda form: pickle.loads(pickle.dumps(form))]
)
def test_a_copy_of_a_likeness_is_real(form: Any, copied: Any) -> None:
    twin = copied(form)
    assert type(twin) in (azure_forms.QuietAccessToken, azure_forms.QuietAccessTokenInfo)
    assert (twin.token, twin.expires_on, repr(twin)) == ("s3cret", 5, repr(form))
