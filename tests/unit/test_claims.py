"""Which token answers a claims challenge, whatever the resource and the token say."""

from __future__ import annotations

import base64
import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_identity._core.claims import was_issued_after


def jwt(payload: bytes) -> str:
    return f"e30.{base64.urlsafe_b64encode(payload).decode().rstrip('=')}.signature"


def asks_for(moment: object) -> str:
    return json.dumps({"access_token": {"nbf": {"essential": True, "value": moment}}})


@pytest.mark.parametrize("moment", [1700000000, "1700000000"])
@pytest.mark.parametrize("name", ["nbf", "iat"])
def test_a_date_is_compared(moment: object, name: str) -> None:
    for seconds, later in ((-1, False), (0, False), (1, True)):
        token = jwt(json.dumps({"sub": "ÿ>?", name: 1700000000 + seconds}).encode())
        assert was_issued_after(token, asks_for(moment)) is later


@pytest.mark.parametrize(
    "claims", ["", "{", "[]", "null", '{"access_token": 1}', "\ud800", asks_for("x"), "[" * 10**5]
)
def test_claims_that_ask_for_no_date_are_answered_by_no_date(claims: str) -> None:
    assert was_issued_after(jwt(b'{"nbf": 1}'), claims) is False


@given(st.binary() | st.recursive(st.none() | st.integers() | st.text(), st.lists), st.text())
def test_any_token_and_any_claims_will_do(payload: object, claims: str) -> None:
    content = payload if isinstance(payload, bytes) else json.dumps({"nbf": payload}).encode()
    assert was_issued_after(jwt(content), asks_for(1)) in (True, False)
    assert was_issued_after(claims, claims) is False


def test_no_depth_is_too_deep() -> None:
    token = jwt(b'{"nbf": 7}')
    for depth in range(1, sys.getrecursionlimit() + 50):
        nested = "[" * depth + "]" * depth
        assert was_issued_after(jwt(b'{"nbf": %s}' % nested.encode()), asks_for(1)) is False
        assert was_issued_after(token, asks_for(1).replace("1", nested)) is False
