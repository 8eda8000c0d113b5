"""Which tokens satisfy a claims challenge, with arbitrary claims and tokens."""

from __future__ import annotations

import base64
import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_identity._core.claims import Challenge, is_later, issued_after, was_issued_after
from imds_identity._core.token import Token
from support import FakeClock, new_token


def jwt(payload: bytes) -> str:
    return f"e30.{base64.urlsafe_b64encode(payload).decode().rstrip('=')}.signature"


def nbf_claims(timestamp: object) -> str:
    return json.dumps({"access_token": {"nbf": {"essential": True, "value": timestamp}}})


@pytest.mark.parametrize("timestamp", [1700000000, "1700000000"])
@pytest.mark.parametrize("name", ["nbf", "iat"])
def test_issue_time_is_compared_with_the_claims(timestamp: object, name: str) -> None:
    for seconds, later in ((-1, False), (0, False), (1, True)):
        token = jwt(json.dumps({"sub": "ÿ>?", name: 1700000000 + seconds}).encode())
        assert was_issued_after(token, nbf_claims(timestamp)) is later


@pytest.mark.parametrize(
    "claims", ["", "{", "[]", "null", '{"access_token": 1}', "\ud800", nbf_claims("x"), "[" * 10**5]
)
def test_claims_without_a_timestamp_are_not_satisfied_by_an_issue_time(claims: str) -> None:
    assert was_issued_after(jwt(b'{"nbf": 1}'), claims) is False


def test_token_that_was_issued_before_now_is_not_fresh() -> None:
    for seconds, fresh in ((-1, False), (0, False), (1, True)):
        token = jwt(json.dumps({"nbf": 1700000000 + seconds}).encode())
        assert was_issued_after(token, issued_after(1700000000.9, None)) is fresh


def test_no_token_is_issued_after_itself_by_a_service_whose_clock_is_ahead(
    clock: FakeClock,
) -> None:
    token = jwt(json.dumps({"nbf": 1700000600}).encode())
    claims = issued_after(1700000000.9, new_token(clock, token))
    assert was_issued_after(token, claims) is False
    later = jwt(json.dumps({"nbf": 1700000601}).encode())
    assert was_issued_after(later, claims)


@pytest.mark.parametrize(("digits", "is_valid"), [(12, True), (13, False)])
def test_issue_time_has_at_most_twelve_digits(digits: int, is_valid: bool) -> None:
    token = jwt(json.dumps({"nbf": "9" * digits}).encode())
    assert was_issued_after(token, nbf_claims(1)) is is_valid


def test_result_of_a_challenge_is_valid_for_half_a_minute() -> None:
    challenge = Challenge("claims", until=130.0)
    valid = [challenge.answers("claims", now) for now in (99.9, 100, 129.9, 130)]
    assert valid == [False, True, True, False]
    assert not challenge.answers("other claims", 110)


def issued(received_at: float, payload: bytes = b"{}") -> Token:
    return Token(jwt(payload), "Bearer", 0, 0, received_at, received_at, received_at + 60)


def test_token_is_later_by_its_issue_time_and_else_by_its_request() -> None:
    assert is_later(issued(1, b'{"iat": 8}'), issued(2, b'{"iat": 7}'))
    for payload in (b"{}", b'{"iat": 7}'):
        assert is_later(issued(2, payload), issued(1, payload))
        assert not is_later(issued(1, payload), issued(2, payload))
        assert not is_later(issued(1, payload), issued(1, payload))
        # With only one issue time, the request decides.
        assert is_later(issued(2, payload), issued(1, b"{}"))
        assert not is_later(issued(1, b"{}"), issued(2, payload))


def test_token_for_a_challenge_counts_as_requested_when_it_arrived() -> None:
    token = issued(1).replace(refresh_at=20, expires_at=60)
    assert (token.as_answer(10).received_at, token.as_answer(10).refresh_at) == (10, 20)
    assert (token.as_answer(30).received_at, token.as_answer(30).refresh_at) == (30, 30)


@given(st.binary() | st.recursive(st.none() | st.integers() | st.text(), st.lists), st.text())
def test_arbitrary_tokens_and_claims_raise_no_error(payload: object, claims: str) -> None:
    content = payload if isinstance(payload, bytes) else json.dumps({"nbf": payload}).encode()
    assert was_issued_after(jwt(content), nbf_claims(1)) in (True, False)
    assert was_issued_after(claims, claims) is False


def test_deeply_nested_json_raises_no_error() -> None:
    token = jwt(b'{"nbf": 7}')
    for depth in range(1, sys.getrecursionlimit() + 50):
        nested = "[" * depth + "]" * depth
        assert was_issued_after(jwt(b'{"nbf": %s}' % nested.encode()), nbf_claims(1)) is False
        assert was_issued_after(token, nbf_claims(1).replace("1", nested)) is False
