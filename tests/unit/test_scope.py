from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_identity._core.scope import claims_of, resource_of


@pytest.mark.parametrize(
    ("scope", "resource"),
    [
        ("https://vault.azure.net/.default", "https://vault.azure.net"),
        ("https://vault.azure.net", "https://vault.azure.net"),
        ("https://management.azure.com//.default", "https://management.azure.com/"),
        ("https://management.azure.com/", "https://management.azure.com/"),
        ("api://6c5b/.default", "api://6c5b"),
        ("6c5b0a7e-0000-0000-0000-000000000000", "6c5b0a7e-0000-0000-0000-000000000000"),
    ],
)
def test_scope_names_its_resource(scope: str, resource: str) -> None:
    assert resource_of((scope,)) == resource


@pytest.mark.parametrize(
    "scopes",
    [
        (), ("a", "b"), ("",), ("/.default",), ("a b",), ("a\r\nX: y",), (None,), (7,), (["a"],),
        (b"a",), ("\ud800",), ("x" * 3000,),
    ],
)  # fmt: skip
def test_anything_but_one_scope_is_refused(scopes: tuple[object, ...]) -> None:
    with pytest.raises(ValueError, match=r"scope"):
        resource_of(scopes)


def test_scope_has_at_most_2048_characters() -> None:
    assert resource_of(("x" * 2048,)) == "x" * 2048
    with pytest.raises(ValueError, match="a scope of 2049 characters"):
        resource_of(("x" * 2049,))


@given(st.text())
def test_resource_is_one_nonempty_word(scope: str) -> None:
    try:
        resource = resource_of((scope,))
    except ValueError:
        return
    assert resource
    assert resource.isprintable()
    assert " " not in resource


def test_claims_are_a_string_or_nothing() -> None:
    assert claims_of('{"access_token": {}}') == '{"access_token": {}}'
    assert claims_of(None) is claims_of("") is None
    refused: list[object] = [["{}"], {"access_token": {}}, b"{}", 7, False, "\ud800", "x" * 70_000]
    for claims in refused:
        with pytest.raises(ValueError, match="claims must be"):
            claims_of(claims)


def test_claims_have_at_most_65536_characters_without_surrogates() -> None:
    for claims in ("x" * 65536, "\ud7ff\ue000"):
        assert claims_of(claims) == claims
    for claims in ("x" * 65537, "\ud800", "\udfff"):
        with pytest.raises(ValueError, match="at most 65536 characters"):
            claims_of(claims)
