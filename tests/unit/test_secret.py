"""A secret is used and never shown."""

from __future__ import annotations

import base64
import copy
import pickle
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_identity._core.secret import HIDDEN, Secret

SECRETS = st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), min_size=1)


def test_only_reveal_returns_the_secret() -> None:
    secret = Secret("s3cret").after("Basic ")
    assert secret.reveal() == "Basic s3cret"
    for shown in (repr(secret), str(secret), f"{secret}", repr([secret]), f"{secret!r:>20}"):
        assert "s3cret" not in shown
    assert not isinstance(secret, tuple | str)
    for made in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be pickled"):
            made(secret)


@given(SECRETS, st.text(), st.text())
def test_secret_is_found_in_any_text(value: str, before: str, after: str) -> None:
    shown = Secret(value).redacted(f"{before}{value}{after}")
    letters = "".join(c for c in value if c.isalnum())
    if len(letters) >= 8:
        assert value not in shown
        assert HIDDEN in shown


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz+/=0123456789", min_size=16), st.binary())
def test_encodings_of_the_secret_are_found(value: str, before: bytes) -> None:
    secret = Secret(value)
    encoded = base64.b64encode(before + value.encode()).decode().rstrip("=")
    no_jitter = encoded[4 * (len(before) // 3 + 2) : -4]
    assert len(no_jitter) < 8 or no_jitter not in secret.redacted(f"x {encoded} y")
    for form in (quote(value, safe=""), value.encode().hex(), value.upper()):
        bare = [c for c in form if c.isalnum()]
        assert len(bare) < 8 or form not in secret.redacted(f"x {form} y")


@given(st.text())
def test_text_without_the_secret_is_unchanged(text: str) -> None:
    secret = Secret("0123456789abcdef" * 4)
    if not any(c.isdigit() and c.isascii() for c in text):
        assert secret.redacted(text) == text


def test_text_around_the_secret_remains() -> None:
    secret = Secret("dGhlIHNlY3JldA==")
    assert secret.redacted("the header 'dGhlIHNlY3JldA==' is wrong") == (
        "the header '<hidden>==' is wrong"
    )


def test_adjacent_parts_are_hidden_together_and_others_separately() -> None:
    secret = Secret("abcdefgh-12345678")
    assert secret.redacted("abcdefghABCDEFGH") == "<hidden>"
    assert secret.redacted("abcdefgh, ABCDEFGH") == "<hidden>"
    assert secret.redacted("abcdefghxABCDEFGH") == "<hidden>x<hidden>"
    assert secret.redacted("abcdefg, bcdefgh-1") == "abcdefg, <hidden>"


def test_secret_that_cannot_be_encoded_is_found() -> None:
    assert Secret("\ud800abcdefgh").redacted("it is abcdefgh") == "it is <hidden>"


@pytest.mark.parametrize("value", ["", "a\n", "a\r\nb", "\x00", "ü", "\ud800"])
def test_unsendable_secrets_are_recognized(value: str) -> None:
    assert not Secret(value).fits_a_header()
    assert Secret("x y=").fits_a_header()


def test_redaction_twice_changes_nothing() -> None:
    once = Secret("hidden-word").redacted("the hidden-word and the rest")
    assert once == "the <hidden> and the rest"
    assert Secret("hidden-word").redacted(once) == Secret("hidden").redacted(once) == once


def test_secret_of_a_few_characters_does_not_garble_messages() -> None:
    assert Secret("h").redacted("the service") == "the service"
    assert Secret("abcd").redacted("xabcdx") == "x<hidden>x"
