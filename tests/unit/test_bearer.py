"""URLs to which a token may be sent, and claims challenges in responses."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_identity._azure_core.bearer import check_url, claims_of, origin_of
from support import CHALLENGE, CLAIMS


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://Host/a?b", ("https", "host", 443)),
        ("http://host", ("http", "host", 80)),
        ("https://host:80", ("https", "host", 80)),
        ("http://[::1]:8080/", ("http", "::1", 8080)),
        (None, ("", "", 80)),
    ],
)
def test_origin_has_the_default_port_of_its_scheme(
    url: str | None, origin: tuple[str, str, int]
) -> None:
    assert origin_of(url) == origin


@pytest.mark.parametrize(
    "url", ["https://x.example/", "http://localhost:1/", "http://127.0.0.1/", "http://[::1]/"]
)
def test_token_may_be_sent_with_tls_or_to_this_machine(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://x.example/", "http://127.0.0.2/", "ftp://localhost/", "localhost", "", None,
        "http://x.example\\@localhost/", "http://localhost\\.x.example/",
    ],
)  # fmt: skip
def test_token_is_not_sent_unencrypted_to_another_machine(url: str | None) -> None:
    with pytest.raises(ValueError, match="must not be sent unencrypted"):
        check_url(url)


def test_refused_url_is_shown_without_its_secrets() -> None:
    with pytest.raises(ValueError, match="https, not 'http://<hidden>@h/<hidden>") as caught:
        check_url("http://user:s3cret@h/s3cret?sig=s3cret")
    assert "s3cret" not in str(caught.value)


def challenge(encoded: str) -> dict[str, str]:
    return {"WWW-Authenticate": f'Bearer realm="", error="insufficient_claims", claims="{encoded}"'}


def test_claims_of_a_challenge_are_decoded() -> None:
    assert claims_of(401, {"WWW-Authenticate": CHALLENGE}) == CLAIMS
    assert claims_of(403, {"WWW-Authenticate": CHALLENGE}) is None
    assert claims_of(401, {}) is None
    other = CHALLENGE.replace("insufficient_claims", "invalid_token")
    assert claims_of(401, {"WWW-Authenticate": other}) is None


@given(st.text())
def test_both_alphabets_of_base64_are_understood(claims: str) -> None:
    content = claims.encode("utf-8", "replace")
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        encoded = encode(content).decode()
        for form in (encoded, encoded.rstrip("=")):
            if form:
                assert claims_of(401, challenge(form)) == content.decode()


@pytest.mark.parametrize("encoded", ["a", "/w=="])
def test_claims_that_cannot_be_decoded_are_no_challenge(encoded: str) -> None:
    assert claims_of(401, challenge(encoded)) is None


def test_every_digit_of_base64_is_understood() -> None:
    content = "\N{INVERTED QUESTION MARK}\N{GREATER-THAN SIGN}?>" * 9
    encoded = base64.urlsafe_b64encode(content.encode()).decode()
    assert {"-", "_"} <= set(encoded)
    assert claims_of(401, challenge(encoded)) == content
