"""Public captures of the real services: the emulator sends the same headers and bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from emulator.support import VAULT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from emulator.support import Send, Start
    from imds_identity.emulator import ManualClock

HEADERS = {"Content-Type", "Server", "Date", "Content-Length"}


class Capture(NamedTuple):
    """An error response of the identity category of a VM, with all its headers."""

    source: str
    query: Mapping[str, str]
    is_throttled: bool
    status: int
    body: str
    length: int


CAPTURES = [
    Capture(
        "https://github.com/dotnet/SqlClient/issues/2344",
        {},
        True,
        429,
        '{"error":"invalid_request",'
        '"error_description":"Temporarily throttled, too many requests"}',
        90,
    ),
    Capture(
        "https://github.com/Azure/azure-sdk-for-net/issues/37278",
        {"client_id": "unknown"},
        False,
        400,
        '{"error":"invalid_request","error_description":"Identity not found"}',
        68,
    ),
]


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda capture: capture.source)
def test_error_response_is_that_of_the_capture(
    start_emulator: Start, request_token: Send, clock: ManualClock, capture: Capture
) -> None:
    emulator = start_emulator(limits=capture.is_throttled, latency=0, clock=clock)
    for _ in range(20 if capture.is_throttled else 0):
        request_token(emulator)
    response = request_token(emulator, **capture.query)
    assert (response.status_code, response.text) == (capture.status, capture.body)
    assert response.headers["Content-Length"] == str(capture.length)
    assert response.headers["Content-Type"] == "application/json; charset=utf-8"
    assert set(response.headers) == HEADERS


def test_token_response_is_that_of_a_capture_with_a_date_header(
    start_emulator: Start, request_token: Send, clock: ManualClock
) -> None:
    captured: dict[str, Any] = {
        "expires_in": 86317,
        "expires_on": 1709895997,
        "ext_expires_in": 86399,
        "not_before": 1709809297,
    }
    date = 1709809679  # Thu, 07 Mar 2024 11:07:59 GMT
    issued = captured["not_before"] + 300
    clock.advance(issued - clock.time())
    emulator = start_emulator(clock=clock)
    request_token(emulator)
    clock.advance(date - issued)
    response = request_token(emulator)
    body = response.json()
    # Entra rounds a lifetime of 86,400 seconds down by one.
    expected = {name: captured[name] for name in ("expires_on", "not_before")}
    expected |= {name: captured[name] + 1 for name in ("expires_in", "ext_expires_in")}
    assert {name: int(body[name]) for name in captured} == expected
    assert set(body) == {*captured, "access_token", "client_id", "resource", "token_type"}
    assert (body["resource"], body["token_type"]) == (VAULT, "Bearer")
    assert response.headers["Date"] == "Thu, 07 Mar 2024 11:07:59 GMT"
