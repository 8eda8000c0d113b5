from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import jwt
import pytest
import requests

from imds_identity.emulator import Emulator, Fault, ManualClock

if TYPE_CHECKING:
    from emulator.support import Ask, Start


def statuses(ask: Ask, emulator: Emulator, count: Any) -> Any:
    return [ask(emulator).status_code for _ in range(count)]


def test_faults_are_used_up_in_the_order_they_were_set(started: Start, ask: Ask) -> None:
    emulator = started()
    emulator.fault(status=500, times=1)
    emulator.fault(status=429, times=2)
    assert statuses(ask, emulator, 4) == [500, 429, 429, 200]


def test_a_fault_may_let_some_pass_first(started: Start, ask: Ask) -> None:
    emulator = started()
    emulator.fault(status=503, after=2, times=1)
    assert statuses(ask, emulator, 4) == [200, 200, 503, 200]


def test_a_fault_lasts_until_it_is_cleared_by_number_or_with_all(started: Start, ask: Ask) -> None:
    emulator = started()
    first = emulator.fault(status=500)
    emulator.fault(status=503)
    assert statuses(ask, emulator, 2) == [500, 500]
    emulator.clear_faults(first)
    assert statuses(ask, emulator, 2) == [503, 503]
    emulator.clear_faults()
    assert statuses(ask, emulator, 1) == [200]


def test_a_fault_lasts_for_a_time(started: Start, ask: Ask, clock: ManualClock) -> None:
    emulator = started(clock=clock)
    emulator.fault(status=410, seconds=70)
    assert statuses(ask, emulator, 2) == [410, 410]
    clock.advance(70)
    assert statuses(ask, emulator, 1) == [200]


def test_a_random_fault_repeats_itself_with_a_seed(started: Start, ask: Ask) -> None:
    def run() -> Any:
        emulator = started(seed=7, faults=[Fault(status=500, probability=0.5)])
        return statuses(ask, emulator, 30)

    first = run()
    assert set(first) == {200, 500}
    assert run() == first


def test_chance_begins_anew_with_a_reset(started: Start, ask: Ask) -> None:
    emulator = started(seed=3, faults=[Fault(status=500, probability=0.5)])
    first = statuses(ask, emulator, 20)
    emulator.reset()
    assert statuses(ask, emulator, 20) == first


def test_a_status_comes_with_what_the_fault_says(started: Start, ask: Ask) -> None:
    emulator = started()
    emulator.fault(status=429, retry_after=7, times=1)
    answer = ask(emulator)
    assert answer.headers["Retry-After"] == "7"
    assert answer.json()["error"] == "too_many_requests"
    emulator.fault(status=302, headers={"Location": "http://example.invalid/"}, body="gone")
    emulator.reset()
    emulator.fault(status=429, headers={"X-Own": "1"}, body="plain", content_type="text/plain")
    answer = ask(emulator)
    assert "Retry-After" not in answer.headers
    assert (answer.text, answer.headers["X-Own"]) == ("plain", "1")
    assert answer.headers["Content-Type"] == "text/plain"


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_that_has_no_body_is_sent_without_one(
    started: Start, ask: Ask, status: Any
) -> None:
    emulator = started()
    emulator.fault(status=status, body="never sent", times=1)
    answer = ask(emulator)
    assert (answer.status_code, answer.content) == (status, b"")
    assert ask(emulator).status_code == 200


def test_a_wrong_content_type_leaves_the_answer_as_it_is(started: Start, ask: Ask) -> None:
    emulator = started()
    emulator.fault(content_type="text/html")
    answer = ask(emulator)
    assert answer.headers["Content-Type"] == "text/html"
    assert answer.json()["access_token"]


def test_a_truncated_answer_breaks_off(started: Start, ask: Ask) -> None:
    emulator = started()
    emulator.fault(truncate=10)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        ask(emulator)


def test_a_reset_is_a_reset(started: Start, ask: Ask) -> None:
    emulator = started()
    emulator.fault(reset=True, times=1)
    with pytest.raises(requests.exceptions.ConnectionError):
        ask(emulator)
    assert emulator.requests[0].status == 0
    assert ask(emulator).status_code == 200


def test_no_answer_lasts_until_the_client_gives_up(started: Start, http: requests.Session) -> None:
    emulator = started()
    emulator.fault(no_answer=True, category="*")
    with pytest.raises(requests.exceptions.ReadTimeout):
        http.get(emulator.endpoint, timeout=0.05)


def test_slow_and_late_answers_arrive_whole(started: Start, ask: Ask) -> None:
    emulator = started()
    emulator.fault(delay=0.01, slow_body=0.02)
    answer = ask(emulator)
    assert answer.json()["access_token"]
    assert ask(emulator).status_code == 200


def test_the_date_may_be_skewed(started: Start, ask: Ask, clock: ManualClock) -> None:
    emulator = started(clock=clock)
    emulator.fault(date_skew=-3600)
    date = parsedate_to_datetime(ask(emulator).headers["Date"])
    assert date.timestamp() == clock.time() - 3600


@pytest.mark.parametrize("left", [120, 0, -5])
def test_a_token_out_of_an_old_cache_has_little_left_or_nothing(
    started: Start, ask: Ask, clock: ManualClock, left: Any
) -> None:
    emulator = started(clock=clock, token_lifetime=3600)
    emulator.fault(token_lifetime=left)
    body = ask(emulator).json()
    assert int(body["expires_on"]) == clock.time() + left
    assert body["expires_in"] == "3600"
    claims = jwt.decode(body["access_token"], options={"verify_signature": False})
    assert claims["exp"] == clock.time() + left


def test_a_fault_spoils_its_category_only(started: Start, ask: Ask, get: Ask) -> None:
    emulator = started()
    emulator.fault(category="openid", status=500)
    assert ask(emulator).status_code == 200
    assert requests.get(emulator.jwks_url).status_code == 500


def test_a_fault_may_wait_for_one_leg_of_arc_s_exchange(
    started: Start, ask: Ask, ask_arc: Ask
) -> None:
    emulator = started("arc")
    emulator.fault(status=429, leg="answer", times=1)
    assert ask_arc(emulator).status_code == 429
    emulator.fault(leg="challenge", headers={"www-authenticate": "Basic realm=/etc/passwd"})
    assert ask(emulator).headers["WWW-Authenticate"] == "Basic realm=/etc/passwd"


def test_reset_forgets_all_but_the_faults_given_from_the_start(started: Start, ask: Ask) -> None:
    emulator = started(faults=[Fault(status=410, times=1)])
    emulator.fault(status=500)
    assert statuses(ask, emulator, 2) == [410, 500]
    emulator.reset()
    assert emulator.requests == []
    assert statuses(ask, emulator, 2) == [410, 200]


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({}, "does nothing"),
        ({"delay": 0}, "does nothing"),
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
def test_a_fault_that_makes_no_sense_is_refused(attributes: Any, words: Any) -> None:
    with pytest.raises(ValueError, match=words):
        Fault(**attributes)
