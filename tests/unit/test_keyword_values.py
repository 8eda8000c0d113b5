"""How keywords of azure-identity are interpreted: limits, defaults, warnings and messages."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest
from azure.core.pipeline.policies import RetryMode

from imds_identity._azure_core.keywords import (
    Keywords,
    ParsedKeywords,
    PipelineKeywords,
    RetryKeywords,
    UnsupportedKeywords,
    WorkloadKeywords,
    parse,
    retry_options_of,
)
from imds_identity._http.retry_options import DEFAULT_RETRY

POSITIVE = ("timeout", "connection_timeout", "read_timeout")
NOT_NEGATIVE = (
    "retry_total",
    "retry_connect",
    "retry_read",
    "retry_status",
    "retry_backoff_factor",
    "retry_backoff_max",
)


def parsed(**options: Any) -> ParsedKeywords:
    return parse(options, "Credential", ["client_id"])


def warnings_of(source: str, **options: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        parsed(**options).warn_of_unused(source, 1)
    assert all(each.filename == __file__ for each in caught)
    return [str(each.message) for each in caught]


@pytest.mark.parametrize(
    ("keyword", "value", "option", "expected"),
    [
        ("timeout", 0.001, "seconds", 0.001),
        ("timeout", 1000, "seconds", 1000.0),
        ("timeout", math.inf, "seconds", math.inf),
        ("connection_timeout", 0.001, "connect_seconds", 0.001),
        ("read_timeout", 59.5, "request_seconds", 59.5),
        ("read_timeout", 60.5, "request_seconds", 60.0),
        *(
            (keyword, value, option, expected)
            for keyword, option in [
                ("retry_total", "attempts"),
                ("retry_connect", "connect_attempts"),
                ("retry_read", "read_attempts"),
                ("retry_status", "status_attempts"),
            ]
            for value, expected in [(0, 1), (1, 2), (2.9, 3), (1000, 1001), (math.inf, 1001)]
        ),
        ("retry_backoff_factor", 0, "first_pause", 0.0),
        ("retry_backoff_factor", 0.8, "first_pause", 0.8),
        ("retry_backoff_max", 0, "longest_pause", 0.0),
        ("retry_backoff_max", 120, "longest_pause", 120.0),
        ("retry_mode", "fixed", "growth", 1.0),
        ("retry_mode", "Fixed", "growth", 1.0),
        ("retry_mode", RetryMode.Fixed, "growth", 1.0),
        ("retry_on_status_codes", [399, 400, 401, 402], "statuses", {400, 402}),
        ("retry_on_status_codes", ["503"], "statuses", {503}),
        ("retry_on_status_codes", [], "statuses", set()),
    ],
)
def test_keyword_changes_one_option(keyword: str, value: Any, option: str, expected: Any) -> None:
    assert retry_options_of({keyword: value}) == DEFAULT_RETRY._replace(**{option: expected})


@pytest.mark.parametrize(("seconds", "limit"), [(2, 2.0), (59.5, 59.5), (60.5, 60.0)])
def test_connection_timeout_is_limited(seconds: float, limit: float) -> None:
    assert retry_options_of({"connection_timeout": seconds}).connect_seconds == limit


@pytest.mark.parametrize("mode", ["exponential", "Exponential", RetryMode.Exponential])
def test_default_retry_mode_changes_nothing(mode: object) -> None:
    assert retry_options_of({"retry_mode": mode}) == DEFAULT_RETRY


@pytest.mark.parametrize("keyword", sorted(RetryKeywords.__annotations__))
def test_none_keeps_the_default(keyword: str) -> None:
    assert parsed(**{keyword: None}) == ParsedKeywords({}, DEFAULT_RETRY)


@pytest.mark.parametrize(
    ("timeouts", "request_seconds"),
    [
        ({"connection_timeout": 1}, None),
        ({"connection_timeout": 2}, None),
        ({"connection_timeout": 2.5}, 12.5),
        ({"connection_timeout": 30}, 40),
        ({"read_timeout": 5}, 5),
        ({"read_timeout": 5, "connection_timeout": 1}, 6),
        ({"read_timeout": 1e9, "connection_timeout": 1e9}, 120),
    ],
)
def test_request_timeout_is_the_sum_of_its_parts(
    timeouts: dict[str, float], request_seconds: float | None
) -> None:
    assert retry_options_of(timeouts).request_seconds == request_seconds


@pytest.mark.parametrize("value", ["3", True, False, math.nan, -1, [1], object()])
@pytest.mark.parametrize("keyword", [*POSITIVE, *NOT_NEGATIVE])
def test_value_that_is_not_a_number_in_range_is_rejected(keyword: str, value: Any) -> None:
    words = "above 0" if keyword in POSITIVE else "of 0 or more"
    with pytest.raises(ValueError, match=rf"^{keyword} must be a number {words}, not ") as caught:
        parsed(**{keyword: value})
    assert str(caught.value).endswith(repr(value))


@pytest.mark.parametrize("keyword", POSITIVE)
def test_timeout_of_zero_is_rejected(keyword: str) -> None:
    with pytest.raises(ValueError, match=f"^{keyword} must be a number above 0, not 0$"):
        parsed(**{keyword: 0})


@pytest.mark.parametrize("mode", ["sometimes", 1])
def test_unknown_retry_mode_is_rejected(mode: object) -> None:
    with pytest.raises(ValueError, match=f"'exponential' or 'fixed', not '{mode}'$"):
        parsed(retry_mode=mode)


@pytest.mark.parametrize("codes", [503, "x", [None], [math.inf], object()])
def test_statuses_that_are_not_numbers_are_rejected(codes: object) -> None:
    with pytest.raises(ValueError, match=r"^retry_on_status_codes must be a list of HTTP statuses"):
        parsed(retry_on_status_codes=codes)


@pytest.mark.parametrize("headers", ["X-One: 1", [("X-One", "1")], 0])
def test_headers_must_be_a_mapping(headers: object) -> None:
    with pytest.raises(TypeError, match=r"^headers must be a mapping of names to values, not "):
        parsed(headers=headers)


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("client_idd", "; did you mean 'client_id'?"),
        ("retry_totl", "; did you mean 'retry_total'?"),
        ("exclude_cli", ""),
        ("exclude_cli_credentials", ""),
        ("_cach", ""),
        ("a\nb", ""),
    ],
)
def test_unknown_keyword_is_rejected(name: str, suggestion: str) -> None:
    with pytest.raises(TypeError) as caught:
        parsed(**{name: None})
    shown = name.replace("\n", " ")
    message = f"Credential() got an unexpected keyword argument {shown!r}{suggestion}"
    assert str(caught.value) == message


def test_keywords_of_chains_are_accepted() -> None:
    assert parsed(exclude_cli_credential=True).retry_options == DEFAULT_RETRY


@pytest.mark.parametrize("name", sorted(Keywords.__annotations__))
def test_only_keywords_of_policies_need_the_pipeline(name: str) -> None:
    keywords = ParsedKeywords({name: object()}, DEFAULT_RETRY)
    assert keywords.uses_pipeline == (name in PipelineKeywords.__annotations__)


@pytest.mark.parametrize("name", sorted(Keywords.__annotations__))
def test_keyword_without_effect_causes_a_warning(name: str) -> None:
    keywords = {name: {"a": "b"}} if name not in RetryKeywords.__annotations__ else {}
    has_warning = name in UnsupportedKeywords.__annotations__
    assert bool(warnings_of("imds", **keywords)) == has_warning
    has_warning |= name in WorkloadKeywords.__annotations__
    assert bool(warnings_of("workload-identity", **keywords)) == has_warning


def test_one_warning_names_all_keywords_without_effect() -> None:
    one = warnings_of("imds", proxies={"http": "x"}, session=None, retry_policy=0)
    assert [text.partition(":")[0] for text in one] == ["proxies has no effect"]
    two = warnings_of("imds", session=object(), proxies={"http": "x"})
    assert [text.partition(":")[0] for text in two] == ["proxies, session have no effect"]
