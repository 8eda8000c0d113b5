"""Messages: what they say of others' words, and what comes back from the cache of the machine."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_identity import errors
from imds_identity._core.failure import (
    Failure,
    Malformed,
    Reason,
    Refused,
    SecretUnreadable,
    Unavailable,
    failure_from_dict,
    failure_to_dict,
    sanitize,
)
from imds_identity._core.identity import SYSTEM_ASSIGNED
from imds_identity._core.secret import Secret
from imds_identity._core.token_request import TokenRequest
from imds_identity._http.messages import Response
from imds_identity._sources.refusals import refusal

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(10**400)
)  # fmt: skip
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
FACTS = failure_to_dict(Refused("it would not", "Ask again.", status=429, retry_after=3.5))


@given(st.text())
def test_any_text_becomes_one_bounded_printable_line(text: str) -> None:
    quoted = sanitize(text)
    assert quoted.isprintable()
    assert quoted.isascii() or quoted.encode()
    assert sanitize(text * 1000, 40) == sanitize(text * 1000, 40)[:41]


def test_quoted_text_is_shortened_to_500_characters() -> None:
    assert sanitize("x" * 500) == "x" * 500
    assert sanitize("x" * 501) == "x" * 500 + "\N{HORIZONTAL ELLIPSIS}"
    assert sanitize("\n" * 2000 + "x") == ""


@pytest.mark.parametrize(
    "hostile",
    ["\x1b[31m", "\x07", "\r\n", "\u202e", "\u2066", "\u200b", "\ud800", "\x00", "\u2028", "\x9b"],
)
def test_control_characters_are_removed(hostile: str) -> None:
    assert hostile not in sanitize(f"before{hostile}after")


@pytest.mark.parametrize(
    "secret",
    [
        "eyJhbGciOiJSUzI1NiJ9.eyJvaWQiOiIxIn0.c2lnbmF0dXJl",
        "Basic c2VjcmV0c2VjcmV0",
        '"access_token": "opaque-token"',
        "http://user:passw0rd@example.com/",
        "http://user:p@passw0rd@example.com/",
        "http://user:p/passw0rd?#@example.com/",
        "user:passw0rd@example.com:8080/",
        "https://passw0rd@example.com",
    ],
)
def test_apparent_secrets_are_redacted(secret: str) -> None:
    for part in ("c2ln", "c2VjcmV0", "opaque", "passw0rd"):
        assert part not in sanitize(f"it says {secret} there")


@pytest.mark.parametrize(
    "harmless",
    [
        "http://example.com:8080/a?b=c", '{"error":"not so","contact":"help@example.com"}',
        "error: ask help@example.com", "at 12:30", "AADSTS50034: no such user",
    ],
)  # fmt: skip
def test_harmless_text_is_not_redacted(harmless: str) -> None:
    assert sanitize(harmless) == harmless


@given(st.text("ab:/@ \"'{,", max_size=40), st.text("ab:/@", min_size=1, max_size=20))
def test_login_of_a_url_is_redacted_in_any_text(before: str, login: str) -> None:
    assert f"{login}@host" not in sanitize(f"{before}://{login}@host")


@pytest.mark.parametrize(
    "word", ["a", "a:", "a.", "://a:", "a@", "a:b@", "=", "access_token", "eyJ"]
)
def test_long_words_take_linear_time(word: str) -> None:
    """With a pattern that tries each start again, this takes minutes."""
    assert sanitize(word * 100_000, 50_000)
    assert sanitize(word * 10_000 + "@", 50_000)


def test_known_secret_is_redacted_everywhere() -> None:
    failure = Refused("not abcdefgh-12345678 !", "Mend ABCDEFGH.")
    failure.redact(Secret("abcdefgh-12345678"))
    assert str(failure) == "not <hidden> !. Mend <hidden>."
    assert "abcdefgh" not in repr(failure).lower()


@pytest.mark.parametrize("kind", [Unavailable, Refused, Malformed, SecretUnreadable])
def test_failure_survives_serialization(kind: type[Failure]) -> None:
    failure = kind(
        "it would not",
        "Ask again.",
        reason=Reason.THROTTLED,
        status=429,
        service_code="AADSTS500011",
        retry_after=3.5,
    )
    failure.request_summary, failure.attempts, failure.seconds = "the service", 3, 2.5
    again = failure_from_dict(json.loads(json.dumps(failure_to_dict(failure))))
    assert type(again) is kind
    assert str(again) == str(failure)
    assert failure_to_dict(again) == failure_to_dict(failure)


@given(JSON)
def test_any_record_is_a_failure_or_a_value_error(facts: Any) -> None:
    with pytest.raises(ValueError, match="not "):
        failure_from_dict(facts)


@given(st.sampled_from(sorted(FACTS)), JSON)
def test_any_single_value_is_a_failure_or_a_value_error(name: str, planted: Any) -> None:
    try:
        failure = failure_from_dict({**FACTS, name: planted})
    except ValueError:
        return
    assert str(failure).isprintable()
    assert failure.retry_after is None or 0 <= failure.retry_after <= 10**9
    assert failure.attempts >= 0


@pytest.mark.parametrize("name", ["retry_after", "seconds", "attempts", "status"])
@pytest.mark.parametrize("planted", [-1, float("nan"), float("inf"), 10**400, True, "3", [1]])
def test_numbers_out_of_range_are_refused(name: str, planted: Any) -> None:
    with pytest.raises(ValueError, match="number"):
        failure_from_dict({**FACTS, name: planted})


def test_new_failure_has_no_attempts() -> None:
    failure = Refused("no", "Wait.")
    assert (failure.attempts, failure.seconds, failure.request_summary) == (0, 0.0, "")
    assert str(failure) == "no. Wait."


def test_missing_numbers_in_a_record_become_zero() -> None:
    failure = failure_from_dict({**FACTS, "attempts": None, "seconds": None})
    assert (failure.attempts, failure.seconds) == (0, 0.0)


def test_escape_sequences_in_a_record_are_removed() -> None:
    failure = failure_from_dict(
        {**FACTS, "problem": "\x1b]0;owned\x07", "request_summary": "\u202eevil"}
    )
    assert str(failure).isprintable()


@pytest.mark.parametrize("kind", [Unavailable, Refused, Malformed, SecretUnreadable])
@pytest.mark.parametrize("reason", [None, "of-a-later-version", 1, ["throttled"]])
def test_unknown_reason_in_a_record_becomes_the_default_of_its_kind(
    kind: type[Failure], reason: Any
) -> None:
    facts = {**failure_to_dict(kind("it would not")), "reason": reason}
    assert failure_from_dict(facts).reason is kind.default_reason
    del facts["reason"], facts["service_code"]
    assert failure_from_dict(facts).reason is kind.default_reason


def test_copy_has_all_attributes() -> None:
    failure = Refused("no", "Wait.", reason=Reason.THROTTLED, status=429, retry_after=3.0)
    failure.request_summary, failure.attempts, failure.seconds = "the service", 3, 2.5
    copied = failure.copy()
    assert copied is not failure
    assert vars(copied) == vars(failure)
    assert copied.args == failure.args


def test_public_exception_has_all_facts() -> None:
    failure = Refused("no", "Wait.", reason=Reason.THROTTLED, status=429, retry_after=3.0)
    failure.attempts, failure.seconds = 3, 2.5
    error = errors.error_from(failure)
    assert str(error) == str(failure)
    facts = error.reason_code, error.status_code, error.attempts, error.seconds, error.retry_after
    assert facts == ("throttled", 429, 3, 2.5, 3.0)


@pytest.mark.parametrize(
    ("status", "error_text", "reason", "code"),
    [
        (
            400,
            "invalid_resource: AADSTS500011: none",
            "unknown-resource",
            "AADSTS500011",
        ),
        (400, "invalid_resource", "unknown-resource", ""),
        (400, "AADSTS500011: none", "unknown-resource", "AADSTS500011"),
        (400, "AADSTS650057: none", "unknown-resource", "AADSTS650057"),
        (401, "AADSTS7000112: disabled", "identity-deleted", "AADSTS7000112"),
        (401, "AADSTS700016: no such application", "identity-deleted", "AADSTS700016"),
        (400, "AADSTS53003: blocked", "entra-refused", "AADSTS53003"),
        (400, "invalid_request: Identity not found", "identity-not-found", ""),
        (400, "Multiple user assigned identities exist", "multiple-identities", ""),
        (400, "bad query", "bad-request", ""),
        (403, "Forbidden", "refused", ""),
        (429, "Too many requests", "throttled", ""),
        (404, "Not found", "service-failing", ""),
        (503, "busy", "service-failing", ""),
        (302, "", "redirect", ""),
    ],
)
def test_reason_comes_from_status_and_error_text(
    status: int, error_text: str, reason: str, code: str
) -> None:
    body = json.dumps({"error": error_text}).encode()
    response = Response(status, {}, body, 0.0, 0.0, 0.0)
    failure = refusal(response, TokenRequest("https://vault.azure.net", SYSTEM_ASSIGNED))
    assert failure.reason is Reason(reason)
    assert failure.service_code == code
    assert errors.error_from(failure).reason_code == reason
