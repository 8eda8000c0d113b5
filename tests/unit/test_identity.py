from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_identity._core.identity import SYSTEM_ASSIGNED, Identity, ascii_lower, parse_identity
from imds_identity._core.key import key_for
from imds_identity._core.source import Source


def test_no_selector_is_the_system_assigned_identity() -> None:
    assert parse_identity() == SYSTEM_ASSIGNED
    assert parse_identity(identity_config={}) == SYSTEM_ASSIGNED
    assert SYSTEM_ASSIGNED.query == {}


@pytest.mark.parametrize(
    ("selector", "parameter"),
    [("client_id", "client_id"), ("object_id", "object_id"), ("resource_id", "msi_res_id")],
)
def test_a_selector_is_sent_by_the_services_name(selector: str, parameter: str) -> None:
    by_argument = parse_identity(**{selector: "x"})  # type: ignore[arg-type]
    assert by_argument == parse_identity(identity_config={selector: "x"})
    assert by_argument.query == {parameter: "x"}


@pytest.mark.parametrize("key", ["msi_res_id", "mi_res_id", "resource_id"])
def test_all_names_of_the_resource_id_are_understood(key: str) -> None:
    assert parse_identity(identity_config={key: "/subscriptions/s"}) == Identity(
        "resource_id", "/subscriptions/s"
    )


def test_two_selectors_are_named_in_the_error() -> None:
    with pytest.raises(ValueError, match="client_id and object_id were given"):
        parse_identity(client_id="a", object_id="b")
    with pytest.raises(ValueError, match=r"resource_id and identity_config\['object_id'\]"):
        parse_identity(resource_id="a", identity_config={"object_id": "b"})
    with pytest.raises(ValueError, match="were given"):
        parse_identity(identity_config={"resource_id": "a", "msi_res_id": "a"})


@pytest.mark.parametrize("nothing", [None, ""])
def test_a_selector_with_no_value_selects_nothing(nothing: Any) -> None:
    """As a variable of the environment that is not set comes out of ``os.environ.get``."""
    assert (
        parse_identity(client_id=nothing, object_id=nothing, resource_id=nothing) == SYSTEM_ASSIGNED
    )
    assert parse_identity(identity_config={"client_id": nothing}) == SYSTEM_ASSIGNED
    assert parse_identity(identity_config={"msi_res_id": nothing, "object_id": "o"}).value == "o"
    assert parse_identity(client_id=nothing, identity_config={"client_id": "c"}).value == "c"


def test_an_unknown_key_alone_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(ValueError, match=r"'principal'.*client_id, mi_res_id"):
        parse_identity(identity_config={"principal": "x"})
    with pytest.raises(ValueError, match="unknown key 'principal'"):
        parse_identity(client_id="", identity_config={"principal": "x", "object_id": None})


def test_unknown_key_with_a_selector_only_warns() -> None:
    with pytest.warns(UserWarning, match=r"identity_config has an unknown key 'principal'.*not"):
        identity = parse_identity(identity_config={"principal": "x", "object_id": "o"})
    assert identity == Identity("object_id", "o")
    with pytest.warns(UserWarning, match="principal"):
        assert parse_identity(client_id="c", identity_config={"principal": "x"}).value == "c"


@pytest.mark.parametrize("value", ["  ", "a\nb", "a\x00b", 7, b"x"])
def test_invalid_selector_value_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="client_id"):
        parse_identity(client_id=value)  # type: ignore[arg-type]


def test_selector_value_has_at_most_2048_characters() -> None:
    assert parse_identity(resource_id="x" * 2048).value == "x" * 2048
    with pytest.raises(ValueError, match="resource_id must have at most 2048 characters"):
        parse_identity(resource_id="x" * 2049)


@given(st.text())
def test_any_selector_is_refused_or_kept(value: str) -> None:
    try:
        identity = parse_identity(object_id=value)
    except ValueError:
        return
    assert identity == (Identity("object_id", value.strip()) if value else SYSTEM_ASSIGNED)
    assert bool(identity.value) == bool(value)


@pytest.mark.parametrize("config", [["client_id"], "client_id", 7])
def test_identity_config_must_be_a_mapping(config: Any) -> None:
    with pytest.raises(ValueError, match="identity_config is a mapping"):
        parse_identity(identity_config=config)


@given(st.text())
def test_only_ascii_case_is_ignored(value: str) -> None:
    assert ascii_lower(value).encode("utf-8", "surrogatepass") == (
        value.encode("utf-8", "surrogatepass").lower()
    )


def test_exactly_the_ascii_letters_are_lowered() -> None:
    every = "".join(map(chr, range(256)))
    assert ascii_lower(every) == every[:65] + every[97:123] + every[91:]


def test_kelvin_sign_is_not_the_letter_k() -> None:
    assert "\N{KELVIN SIGN}".lower() == "k"
    assert ascii_lower("\N{KELVIN SIGN}") != ascii_lower("K") == "k"
    source = Source("imds", "http://x")
    keys = {key_for(source, Identity("client_id", v), "r") for v in ("K", "k", "\N{KELVIN SIGN}")}
    assert len(keys) == 2


def test_key_contains_cae_only_where_it_changes_the_token() -> None:
    for knows_cae, cae, expected in ((True, True, "cae"), (True, False, ""), (False, True, "")):
        source = Source("imds", "http://x", knows_cae=knows_cae)
        assert key_for(source, Identity(), "r", cae=cae).cae == expected
