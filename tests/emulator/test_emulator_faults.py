from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import jwt
import pytest
import requests

from imds_identity.emulator import Emulator, Fault, Machine, ManualClock

if TYPE_CHECKING:
    from emulator.support import Send, Start


def statuses(request_token: Send, emulator: Emulator, count: Any) -> Any:
    return [request_token(emulator).status_code for _ in range(count)]


def test_faults_apply_in_the_order_in_which_they_were_set(
    start_emulator: Start, request_token: Send
) -> None:
    emulator = start_emulator()
    emulator.fault(status=500, times=1)
    emulator.fault(status=429, times=2)
    assert statuses(request_token, emulator, 4) == [500, 429, 429, 200]


def test_fault_can_skip_requests_first(start_emulator: Start, request_token: Send) -> None:
    emulator = start_emulator()
    emulator.fault(status=503, after=2, times=1)
    assert statuses(request_token, emulator, 4) == [200, 200, 503, 200]


def test_faults_are_removed_by_number_or_all_together(
    start_emulator: Start, request_token: Send
) -> None:
    emulator = start_emulator()
    first = emulator.fault(status=500)
    emulator.fault(status=503)
    assert statuses(request_token, emulator, 2) == [500, 500]
    emulator.clear_faults(first)
    assert statuses(request_token, emulator, 2) == [503, 503]
    emulator.clear_faults()
    assert statuses(request_token, emulator, 1) == [200]


def test_fault_can_end_after_some_seconds(
    start_emulator: Start, request_token: Send, clock: ManualClock
) -> None:
    emulator = start_emulator(clock=clock)
    emulator.fault(status=410, seconds=70)
    assert statuses(request_token, emulator, 2) == [410, 410]
    clock.advance(70)
    assert statuses(request_token, emulator, 1) == [200]


def test_seed_makes_random_faults_reproducible(start_emulator: Start, request_token: Send) -> None:
    def run() -> Any:
        emulator = start_emulator(seed=7, faults=[Fault(status=500, probability=0.5)])
        return statuses(request_token, emulator, 30)

    first = run()
    assert set(first) == {200, 500}
    assert run() == first


def test_reset_restarts_the_random_sequence(start_emulator: Start, request_token: Send) -> None:
    emulator = start_emulator(seed=3, faults=[Fault(status=500, probability=0.5)])
    first = statuses(request_token, emulator, 20)
    emulator.reset()
    assert statuses(request_token, emulator, 20) == first


def test_fault_sets_status_headers_and_body(start_emulator: Start, request_token: Send) -> None:
    emulator = start_emulator()
    emulator.fault(status=429, retry_after=7, times=1)
    response = request_token(emulator)
    assert response.headers["Retry-After"] == "7"
    assert response.json() == {
        "error": "invalid_request",
        "error_description": "Temporarily throttled, too many requests",
    }
    emulator.fault(status=302, headers={"Location": "http://example.invalid/"}, body="gone")
    emulator.reset()
    emulator.fault(status=429, headers={"X-Own": "1"}, body="plain", content_type="text/plain")
    response = request_token(emulator)
    assert "Retry-After" not in response.headers
    assert (response.text, response.headers["X-Own"]) == ("plain", "1")
    assert response.headers["Content-Type"] == "text/plain"


@pytest.mark.parametrize("status", [204, 304])
def test_status_without_body_is_sent_without_one(
    start_emulator: Start, request_token: Send, status: Any
) -> None:
    emulator = start_emulator()
    emulator.fault(status=status, body="never sent", times=1)
    response = request_token(emulator)
    assert (response.status_code, response.content) == (status, b"")
    assert request_token(emulator).status_code == 200


def test_content_type_fault_keeps_the_body(start_emulator: Start, request_token: Send) -> None:
    emulator = start_emulator()
    emulator.fault(content_type="text/html")
    response = request_token(emulator)
    assert response.headers["Content-Type"] == "text/html"
    assert response.json()["access_token"]


def test_truncated_response_is_incomplete(start_emulator: Start, request_token: Send) -> None:
    emulator = start_emulator()
    emulator.fault(truncate=10)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        request_token(emulator)


def test_reset_fault_is_a_connection_error(start_emulator: Start, request_token: Send) -> None:
    emulator = start_emulator()
    emulator.fault(reset=True, times=1)
    with pytest.raises(requests.exceptions.ConnectionError):
        request_token(emulator)
    assert emulator.requests[0].status == 0
    assert request_token(emulator).status_code == 200


def test_client_times_out_without_a_response(start_emulator: Start, http: requests.Session) -> None:
    emulator = start_emulator()
    emulator.fault(no_answer=True, category="*")
    with pytest.raises(requests.exceptions.ReadTimeout):
        http.get(emulator.endpoint, timeout=0.05)


def test_slow_and_delayed_responses_are_complete(
    start_emulator: Start, request_token: Send
) -> None:
    emulator = start_emulator()
    emulator.fault(delay=0.01, slow_body=0.02)
    response = request_token(emulator)
    assert response.json()["access_token"]
    assert request_token(emulator).status_code == 200


def test_date_header_can_be_shifted(
    start_emulator: Start, request_token: Send, clock: ManualClock
) -> None:
    emulator = start_emulator(clock=clock)
    emulator.fault(date_skew=-3600)
    date = parsedate_to_datetime(request_token(emulator).headers["Date"])
    assert date.timestamp() == clock.time() - 3600


@pytest.mark.parametrize("left", [120, 0, -5])
def test_token_lifetime_fault_returns_an_old_token(
    start_emulator: Start, request_token: Send, clock: ManualClock, left: Any
) -> None:
    emulator = start_emulator(clock=clock, token_lifetime=3600)
    emulator.fault(token_lifetime=left)
    body = request_token(emulator).json()
    assert int(body["expires_on"]) == clock.time() + left
    assert (body["expires_in"], body["ext_expires_in"]) == (str(max(left, 0)), "3600")
    claims = jwt.decode(body["access_token"], options={"verify_signature": False})
    assert claims["exp"] == clock.time() + left


def test_fault_applies_to_its_category_only(
    start_emulator: Start, request_token: Send, get: Send
) -> None:
    emulator = start_emulator()
    emulator.fault(category="openid", status=500)
    assert request_token(emulator).status_code == 200
    assert requests.get(emulator.jwks_url).status_code == 500


def test_fault_can_apply_to_one_leg_of_arc_s_challenge(
    start_emulator: Start, request_token: Send, request_arc_token: Send
) -> None:
    emulator = start_emulator("arc")
    emulator.fault(status=429, leg="answer", times=1)
    assert request_arc_token(emulator).status_code == 429
    emulator.fault(leg="challenge", headers={"www-authenticate": "Basic realm=/etc/passwd"})
    assert request_token(emulator).headers["WWW-Authenticate"] == "Basic realm=/etc/passwd"


def test_reset_keeps_the_faults_of_the_constructor(
    start_emulator: Start, request_token: Send
) -> None:
    emulator = start_emulator(faults=[Fault(status=410, times=1)])
    emulator.fault(status=500)
    assert statuses(request_token, emulator, 2) == [410, 500]
    emulator.reset()
    assert emulator.requests == []
    assert statuses(request_token, emulator, 2) == [410, 200]


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({}, "has no effect"),
        ({"delay": 0}, "has no effect"),
        ({"status": 99}, "status"),
        ({"status": 500, "category": "tokens"}, "category"),
        ({"status": 500, "leg": "third"}, "leg"),
        ({"status": 500, "probability": 2}, "probability"),
        ({"status": 500, "times": -1}, "times"),
        ({"status": 500, "times": True}, "times"),
        ({"delay": float("nan")}, "delay"),
        ({"status": 500, "headers": {"Content-Length": "5"}}, "framing"),
        ({"delay": -1}, "delay"),
    ],
)
def test_invalid_fault_is_rejected(attributes: Any, message: Any) -> None:
    with pytest.raises(ValueError, match=message):
        Fault(**attributes)


def test_unknown_attribute_is_named_with_the_nearest_one(start_emulator: Start) -> None:
    emulator = start_emulator()
    with pytest.raises(ValueError, match=r"no attribute 'statuss'. Did you mean status\?"):
        emulator.fault(statuss=500)
    with pytest.raises(ValueError, match=r"no attribute 'xyz'. The attributes are category, "):
        emulator.fault(xyz=500)
    with pytest.raises(ValueError, match=r"Did you mean notice\?"):
        emulator.schedule_event("Freeze", notise=5)


@pytest.mark.parametrize(
    ("cls", "name", "message"),
    [
        (Fault, "statsu", "Fault has no option 'statsu'. Did you mean status?"),
        (Machine, "os_tpye", "Machine has no option 'os_tpye'. Did you mean os_type?"),
        (Emulator, "fault", "Emulator has no option 'fault'. Did you mean faults?"),
    ],
)
def test_misspelled_argument_is_explained(cls: Any, name: str, message: str) -> None:
    with pytest.raises(TypeError, match=re.escape(message)):
        cls(**{name: 500})
