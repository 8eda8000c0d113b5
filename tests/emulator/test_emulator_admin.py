from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import jwt
import pytest
import requests

from emulator.support import VAULT
from imds_identity.emulator import Fault
from imds_identity.emulator._admin import words
from imds_identity.emulator._state.faults import Standing

if TYPE_CHECKING:
    from emulator.support import Ask, Start
    from imds_identity.emulator import Emulator, ManualClock


@pytest.fixture
def emulator(started: Start, clock: ManualClock) -> Any:
    return started(admin_port=0, clock=clock, resources=["*"])


@pytest.fixture
def admin(emulator: Emulator) -> Any:
    def send(method: Any, path: Any, **how: Any) -> Any:
        return requests.request(
            method, emulator.admin_url + path, timeout=10, allow_redirects=False, **how
        )

    return send


def test_faults_are_set_and_cleared(emulator: Emulator, admin: Ask, ask: Ask) -> None:
    answer = admin("POST", "/api/faults", json={"status": 503, "times": 5})
    assert answer.status_code == 201
    assert ask(emulator).status_code == 503
    (shown,) = admin("GET", "/api/faults").json()["faults"]
    assert shown == {
        "number": answer.json()["number"],
        "category": "identity",
        "does": "status=503",
    }
    admin("DELETE", f"/api/faults?number={shown['number']}")
    assert ask(emulator).status_code == 200


def test_events_are_scheduled_and_cancelled(emulator: Emulator, admin: Ask) -> None:
    event_id = admin("POST", "/api/events", json={"event_type": "Freeze"}).json()["event_id"]
    (shown,) = admin("GET", "/api/events").json()["events"]
    assert (shown["event_id"], shown["status"]) == (event_id, "Scheduled")
    admin("DELETE", f"/api/events?event_id={event_id}")
    assert emulator.events == []


def test_requests_and_tokens_are_listed_without_any_token(
    emulator: Emulator, admin: Ask, ask: Ask
) -> None:
    token = ask(emulator).json()["access_token"]
    ask(emulator, headers={"Authorization": "Basic hunter2"})
    listed = admin("GET", "/api/requests?after=1").json()["requests"]
    assert [record["number"] for record in listed] == [2]
    (shown,) = admin("GET", "/api/tokens").json()["tokens"]
    assert shown["resource"] == VAULT
    for path in ("/", "/live", "/api/requests", "/api/tokens"):
        text = admin("GET", path).text
        assert token not in text
        assert token.rpartition(".")[2] not in text
        assert "hunter2" not in text


def test_revoke_and_reset(emulator: Emulator, admin: Ask, ask: Ask) -> None:
    ask(emulator)
    assert admin("POST", "/api/revoke").status_code == 200
    assert admin("POST", "/api/reset").status_code == 200
    assert emulator.requests == []


def test_the_page_shows_what_happened_and_escapes_it(
    emulator: Emulator, admin: Ask, ask: Ask
) -> None:
    ask(emulator, resource="<script>alert(1)</script>", headers={"X-Bad": "<b>&"})
    emulator.fault(status=500, body="<i>")
    emulator.schedule_event(description="<u>")
    answer = admin("GET", "/")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    for raw in ("<script>alert", "<b>&", "<i>", "<u>"):
        assert raw not in answer.text
    assert "&lt;script&gt;" in answer.text
    assert "script-src 'self';" in answer.headers["Content-Security-Policy"]


def test_the_page_s_buttons_work(emulator: Emulator, admin: Ask) -> None:
    form = {"category": "identity", "status": "429", "times": "2", "delay": "", "body": ""}
    answer = admin("POST", "/do/fault", data=form)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    ((number, fault),) = emulator.faults
    assert (fault.status, fault.times) == (429, 2)
    admin("POST", "/do/clear-fault", data={"number": number})
    assert emulator.faults == []
    admin("POST", "/do/event", data={"event_type": "Freeze", "notice": "5"})
    (event,) = emulator.events
    admin("POST", "/do/cancel-event", data={"event_id": event.event_id})
    assert emulator.events == []
    assert admin("POST", "/do/revoke").status_code == 303
    assert admin("POST", "/do/reset").status_code == 303


def test_its_own_origin_is_welcome(emulator: Emulator, admin: Ask) -> None:
    headers = {"Origin": emulator.admin_url, "Sec-Fetch-Site": "same-origin"}
    assert admin("POST", "/do/reset", headers=headers).status_code == 303


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "https://127.0.0.1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
@pytest.mark.parametrize("path", ["/do/fault", "/do/reset", "/api/faults", "/api/reset"])
def test_other_sites_change_nothing(
    emulator: Emulator, admin: Ask, ask: Ask, headers: Any, path: Any
) -> None:
    ask(emulator)
    assert admin("POST", path, headers=headers, json={"status": 500}).status_code == 403
    assert len(emulator.requests) == 1
    assert emulator.faults == []


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_name_that_was_rebound_to_this_machine_is_refused(
    admin: Ask, host: Any, method: Any
) -> None:
    assert admin(method, "/api/requests", headers={"Host": host}).status_code in (400, 421)


def test_a_form_cannot_pass_for_json(admin: Ask, emulator: Emulator) -> None:
    body = json.dumps({"status": 500})
    answer = admin("POST", "/api/faults", data=body, headers={"Content-Type": "text/plain"})
    assert answer.status_code == 415
    assert emulator.faults == []


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/api/faults", {"status": "x"}, 400),
        ("POST", "/api/faults", {"status": 1}, 400),
        ("POST", "/api/faults", {"status": 500, "headers": 5}, 400),
        ("POST", "/api/faults", {"status": 500, "headers": {"a b": "c"}}, 400),
        ("POST", "/api/faults", {"status": 500, "headers": {"a": "b\r\nc: d"}}, 400),
        ("POST", "/api/faults", {"statu": 500}, 400),
        ("POST", "/api/faults", [1], 400),
        ("POST", "/api/events", {"event_type": "Party"}, 400),
        ("POST", "/api/events", {"description": 5}, 400),
        ("POST", "/api/events", {"notice": "soon"}, 400),
        ("POST", "/api/events", {"resources": "one"}, 400),
        ("DELETE", "/api/faults?number=x", None, 400),
        ("DELETE", "/api/events?event_id=x", None, 400),
        ("GET", "/api/requests?after=x", None, 400),
        ("GET", "/nothing", None, 404),
        ("PUT", "/api/faults", None, 405),
        ("GET", "/do/reset", None, 405),
    ],
)
def test_what_makes_no_sense_is_answered_in_plain_words(
    admin: Ask, method: Any, path: Any, body: Any, status: Any
) -> None:
    answer = admin(method, path, json=body)
    assert answer.status_code == status
    assert answer.json()["error"]
    assert admin("GET", "/").status_code == 200


def test_no_admin_port_no_page(started: Start) -> None:
    assert started().admin_url is None


@pytest.mark.parametrize(
    ("path", "field", "value", "message"),
    [
        ("/do/fault", "status", "often", "This must be a whole number."),
        ("/do/fault", "status", "99", "lies between 200 and 599"),
        ("/do/fault", "times", "0", "cannot be 0"),
        ("/do/fault", "delay", "soon", "This must be a number."),
        ("/do/event", "notice", "-1", "between 0 and ten years"),
        ("/do/event", "duration", "long", "This must be a whole number."),
    ],
)
def test_a_wrong_field_is_answered_beside_it(
    admin: Ask, emulator: Emulator, path: str, field: str, value: str, message: str
) -> None:
    answer = admin(
        "POST", path, data={"status": "503", field: value} if "fault" in path else {field: value}
    )
    assert answer.status_code == 400
    _, _, after = answer.text.partition(f'<input name="{field}"')
    assert message in after[:400]
    assert f'value="{value}"' in after[:100]
    assert emulator.faults == []
    assert emulator.events == []


def test_a_fault_that_does_nothing_is_answered_above_the_form(admin: Ask) -> None:
    answer = admin("POST", "/do/fault", data={"times": "1"})
    assert "This fault does nothing" in answer.text


def test_an_event_is_approved_on_the_page(admin: Ask, emulator: Emulator) -> None:
    event_id = emulator.schedule_event()
    admin("POST", "/do/approve-event", data={"event_id": event_id})
    assert emulator.events[0].status == "Started"


@pytest.mark.parametrize("profile", ["vm", "arc", "app-service", "stack-hub"])
def test_the_page_tells_clients_how_to_find_each_host(started: Start, profile: str) -> None:
    emulator = started(profile, admin_port=0)
    text = html.unescape(requests.get(f"{emulator.admin_url}/", timeout=10).text)
    for name, value in emulator.environment().items():
        assert f"export {name}={value}" in text
    for identity in emulator.identities:
        assert identity.client_id in text


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize("profile", ["vm", "arc", "app-service"])
@pytest.mark.parametrize("number", [0, 1])
def test_the_line_for_curl_gets_the_token(started: Start, profile: str, number: int) -> None:
    emulator = started(profile, admin_port=0)
    text = requests.get(f"{emulator.admin_url}/", timeout=10).text
    line = re.findall(r"<strong>curl</strong>.*?<pre[^>]*>(.*?)</pre>", text, re.DOTALL)[number]
    said = subprocess.check_output(["sh", "-c", html.unescape(line)], text=True)
    token = json.loads(said)["access_token"]
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["appid"] == emulator.identities[number].client_id


def test_nothing_but_static_files_is_served_as_one(admin: Ask) -> None:
    assert "css" in admin("GET", "/static/page.css").headers["Content-Type"]
    for path in ("/static/../api.py", "/static/%2e%2e/api.py", "/static/", "/static/x.css"):
        assert admin("GET", path).status_code == 404


@pytest.mark.parametrize(
    ("fault", "effect"),
    [
        (Fault(status=429, retry_after=2), "Answers 429, says Retry-After: 2 s"),
        (Fault(reset=True), "Resets the connection"),
        (Fault(no_answer=True), "Never answers"),
        (Fault(token_lifetime=-60), "Hands out a token expired"),
        (Fault(delay=5, truncate=3), "Waits 5 s first, closes after 3 bytes of the body"),
        (Fault(document="tampered"), "Changes the attested document after it was signed"),
        (
            Fault(body="ab", date_skew=3600, content_type="text/plain"),
            "Sends another body of 2 bytes, calls it text/plain, moves the Date header by 3600 s",
        ),
    ],
)
def test_a_fault_is_described_in_plain_words(fault: Fault, effect: str) -> None:
    assert words.effect(fault) == effect


@pytest.mark.parametrize(
    ("fault", "reach"),
    [
        (Fault(status=500), "every identity request"),
        (Fault(status=500, times=1), "the next identity request"),
        (Fault(status=500, times=3, after=2), "the next 3 identity requests, after 2 good ones"),
        (
            Fault(status=500, category="*", probability=0.1),
            "every request, each with a chance of 10%",
        ),
        (Fault(status=500, leg="answer"), "every identity request (answer leg)"),
    ],
)
def test_its_reach_is_described_in_plain_words(fault: Fault, reach: str) -> None:
    assert words.reach(Standing(1, fault, 0, 0, None)) == reach


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "under way"),
        (0, "under 1 ms"),
        (0.02, "20 ms"),
        (1.5, "1.5 s"),
        (899, "14 min 59 s"),
        (86340, "23 h 59 min"),
    ],
)
def test_durations_have_units(seconds: float | None, text: str) -> None:
    assert words.duration(seconds) == text
