from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from imds_identity.emulator import DEFAULT_SYSTEM_ASSIGNED, DEFAULT_USER_ASSIGNED, RecordedRequest
from imds_identity.emulator._admin.request_details import curl, decode_token, indent_json
from imds_identity.emulator._admin.search import RequestFilter, names_of
from imds_identity.emulator._settings import Settings

if TYPE_CHECKING:
    from emulator.support import Send, Start

IDENTITIES = (DEFAULT_SYSTEM_ASSIGNED, DEFAULT_USER_ASSIGNED)
NAMES = names_of(IDENTITIES)


def record(number: int = 1, **attributes: Any) -> RecordedRequest:
    values: dict[str, Any] = {
        "method": "GET", "target": "/metadata/instance", "path": "/metadata/instance", "query": {},
        "category": "instance", "headers": {}, "status": 200, **attributes,
    }  # fmt: skip
    return RecordedRequest(number, 0.0, **values)


RECORDS = [
    record(1, category="identity", identity=DEFAULT_SYSTEM_ASSIGNED.client_id),
    record(2, category="identity", identity=DEFAULT_USER_ASSIGNED.client_id.upper()),
    record(3, status=429, note="fault: status=429", response_headers={"Retry-After": "17"}),
    record(4, status=503, answer='{"error":"Unavailable"}'),
    record(5, status=0, headers={"user-agent": "azsdk-go/1.0"}),
    record(6, method="POST", body='{"StartRequests":[]}', resource="https://Vault.azure.net"),
]


@pytest.mark.parametrize(
    ("search", "numbers"),
    [
        ("", [1, 2, 3, 4, 5, 6]),
        ("SYSTEM", [1]),
        ("emulated-identity", [2]),
        (DEFAULT_USER_ASSIGNED.client_id[:13], [2]),
        ("fault", [3]),
        ("17 get", [3]),
        ("unavailable", [4]),
        ("azsdk", [5]),
        ("startrequests vault", [6]),
        ("post get", []),
        ("identity", [1, 2]),
    ],
)
def test_search_finds_all_words_in_any_part_of_a_request(search: str, numbers: list[int]) -> None:
    found = RequestFilter(search).matching(RECORDS, NAMES)
    assert [each.number for each in found] == numbers


@pytest.mark.parametrize(
    ("status", "category", "numbers"),
    [
        ("2xx", "", [1, 2, 6]),
        ("4xx", "", [3]),
        ("503", "", [4]),
        ("none", "", [5]),
        ("failed", "", [3, 4, 5]),
        ("", "identity", [1, 2]),
        ("failed", "identity", []),
    ],
)
def test_requests_are_filtered_by_status_and_category(
    status: str, category: str, numbers: list[int]
) -> None:
    found = RequestFilter(status=status, category=category).matching(RECORDS, NAMES)
    assert [each.number for each in found] == numbers


@given(st.integers(0, 50), st.integers(1, 20))
def test_pages_show_each_request_once(count: int, limit: int) -> None:
    records = [record(number) for number in range(1, count + 1)]
    before: int | None = 0
    numbers: list[int] = []
    previous: list[int] = []
    while before is not None:
        selection = RequestFilter(before=before).select(records, NAMES, limit)
        assert (selection.start, selection.matched) == (len(numbers), count)
        assert selection.newer == (previous[-1] if previous else None)
        numbers += [each.number for each in selection.rows]
        previous.append(before)
        before = selection.older
    assert numbers == list(range(count, 0, -1))


def test_page_shows_a_hundred_of_all_requests(start_emulator: Start, request_token: Send) -> None:
    emulator = start_emulator(admin_port=0)
    request_token(emulator, resource="https://oldest.example")
    for number in range(1200):
        emulator._state.log._records.append(record(number + 2))
    page = requests.get(emulator.admin_url or "", timeout=10).text
    assert "100 of 1,201 requests" in page
    assert page.count('<tr role="row" id="r') == 100
    found = requests.get(f"{emulator.admin_url}/?search=oldest", timeout=10).text
    assert "1 of 1 matching requests, 1,201 in all" in found
    assert Settings().log_size == 10_000


def test_api_filters_requests(start_emulator: Start, request_token: Send) -> None:
    emulator = start_emulator(admin_port=0)
    emulator.fault(body=b"bytes", times=1)
    for resource in (
        "https://vault.azure.net",
        "https://unknown.example",
        "https://vault.azure.net",
    ):
        request_token(emulator, resource=resource)
    api = f"{emulator.admin_url}/api/requests"

    def numbers(query: str) -> list[int]:
        listed = requests.get(api + query, timeout=10).json()["requests"]
        return [each["number"] for each in listed]

    assert numbers("") == [1, 2, 3]
    assert numbers("?search=vault&limit=1") == [3]
    assert numbers("?limit=0") == []
    assert numbers("?status=failed&category=identity") == [2]
    assert numbers("?after=1&status=200") == [3]
    error = requests.get(api + "?status=x", timeout=10).json()
    assert (error["code"], error["field"]) == ("invalid", "status")


def test_page_shows_the_decoded_token(start_emulator: Start, request_token: Send) -> None:
    emulator = start_emulator(admin_port=0)
    request_token(emulator)
    page = requests.get(f"{emulator.admin_url}/?view=1", timeout=10).text
    assert "&#34;appid&#34;: &#34;" + DEFAULT_SYSTEM_ASSIGNED.client_id in page
    assert "&#34;access_token&#34;: &#34;(hidden)&#34;" in page


@given(st.text())
def test_texts_that_are_not_json_or_tokens_are_shown_unchanged(text: str) -> None:
    decode_token(text)
    try:
        value = json.loads(text)
        assert json.dumps(json.loads(indent_json(text))) == json.dumps(value)  # NaN is not NaN
    except ValueError:
        assert indent_json(text) == text


@given(st.text(), st.text(), st.text())
def test_curl_command_quotes_all_values(target: str, header: str, body: str) -> None:
    sent = record(method="POST", target=target, headers={"x-own": header, "host": "a"}, body=body)
    words = shlex.split(curl(sent, "http://127.0.0.1:1", ""))
    assert words[:3] == [
        *("curl", "-s"),
        f"http://127.0.0.1:1{target}" if target.startswith("/") else target,
    ]
    assert words[words.index("-H") + 1] == f"x-own: {header}" or header == "(hidden)"
    assert words[-2:] == ["--data-raw", body] or not body


def test_curl_command_has_the_address_before_a_target_with_a_url_as_resource() -> None:
    sent = record(target="/token?resource=https://vault.azure.net", headers={"host": "a"})
    command = "curl -s 'http://a:1/token?resource=https://vault.azure.net'"
    assert curl(sent, "http://a:1", "") == command


def test_curl_command_executes_no_command_in_the_name_of_a_header() -> None:
    command = curl(record(headers={"x-`id`": "(hidden)"}), "http://a:1", "")
    assert "-H 'x-`id`: (hidden)'" in command


def test_curl_command_has_variables_for_secrets_and_the_address_of_the_key_vault() -> None:
    headers = {"authorization": "(hidden)", "x-identity-header": "(hidden)", "host": "a:2"}
    command = curl(record(headers=headers, method="HEAD"), "http://a:1", "https://a:2")
    assert command.split() == [
        *("curl", "-s", "-k", "https://a:2/metadata/instance", "\\", "--head", "\\", "-H"),
        *('"authorization:', '$AUTHORIZATION"', "\\", "-H"),
        *('"x-identity-header:', '$IDENTITY_HEADER"'),
    ]
