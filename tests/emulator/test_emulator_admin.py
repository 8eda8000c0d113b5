from __future__ import annotations

import html
import json
import os
import re
import shlex
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import jwt
import pytest
import requests

from emulator.support import VAULT
from imds_identity.emulator import Fault
from imds_identity.emulator._admin import text
from imds_identity.emulator._state.faults import ActiveFault

if TYPE_CHECKING:
    from emulator.support import Send, Start
    from imds_identity.emulator import Emulator, ManualClock


@pytest.fixture
def emulator(start_emulator: Start, clock: ManualClock) -> Any:
    return start_emulator(admin_port=0, clock=clock, resources=["*"])


@pytest.fixture
def admin(emulator: Emulator) -> Any:
    def send(method: Any, path: Any, **options: Any) -> Any:
        return requests.request(
            method, emulator.admin_url + path, timeout=10, allow_redirects=False, **options
        )

    return send


def test_faults_are_set_and_cleared(emulator: Emulator, admin: Send, request_token: Send) -> None:
    response = admin("POST", "/api/faults", json={"status": 503, "times": 5})
    assert response.status_code == 201
    assert request_token(emulator).status_code == 503
    (shown,) = admin("GET", "/api/faults").json()["faults"]
    assert shown == {
        "number": response.json()["number"],
        "category": "identity",
        "does": "status=503",
    }
    admin("DELETE", f"/api/faults?number={shown['number']}")
    assert request_token(emulator).status_code == 200


def test_events_are_scheduled_and_canceled(emulator: Emulator, admin: Send) -> None:
    event_id = admin("POST", "/api/events", json={"event_type": "Freeze"}).json()["event_id"]
    (shown,) = admin("GET", "/api/events").json()["events"]
    assert (shown["event_id"], shown["status"]) == (event_id, "Scheduled")
    admin("DELETE", f"/api/events?event_id={event_id}")
    assert emulator.events == []


def test_requests_and_tokens_are_listed_without_secrets(
    emulator: Emulator, admin: Send, request_token: Send
) -> None:
    token = request_token(emulator).json()["access_token"]
    request_token(emulator, headers={"Authorization": "Basic hunter2"})
    listed = admin("GET", "/api/requests?after=1").json()["requests"]
    assert [record["number"] for record in listed] == [2]
    (shown,) = admin("GET", "/api/tokens").json()["tokens"]
    assert shown["resource"] == VAULT
    views = ("/", "/?view=1", "/?view=2", "/?view=tokens")
    for path in (*views, "/api/requests", "/api/tokens"):
        text = admin("GET", path).text
        assert token not in text
        assert token.rpartition(".")[2] not in text
        assert "hunter2" not in text


def test_revoke_and_reset(emulator: Emulator, admin: Send, request_token: Send) -> None:
    request_token(emulator)
    assert admin("POST", "/api/revoke").status_code == 200
    assert admin("POST", "/api/reset").status_code == 200
    assert emulator.requests == []


def test_page_shows_and_escapes_requests_faults_and_events(
    emulator: Emulator, admin: Send, request_token: Send
) -> None:
    request_token(emulator, resource="<script>alert(1)</script>", headers={"X-Bad": "<b>&"})
    emulator.fault(status=500, body="<i>")
    emulator.schedule_event(description="<u>")
    for view, shown in (("", "script"), ("1", "b"), ("faults", ""), ("events", "u")):
        response = admin("GET", f"/?view={view}&search=%3Cscript")
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"
        for raw in ("<script>alert", "<b>&", "<i>", "<u>", 'value="<'):
            assert raw not in response.text
        assert not shown or f"&lt;{shown}&gt;" in response.text
        assert "script-src 'self';" in response.headers["Content-Security-Policy"]


def test_buttons_of_the_page_work(emulator: Emulator, admin: Send) -> None:
    form = {"category": "identity", "status": "429", "times": "2", "delay": "", "body": ""}
    response = admin("POST", "/do/fault", data=form)
    assert (response.status_code, response.headers["Location"]) == (303, "/")
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


def test_settings_identities_secrets_and_time_are_changed_on_the_page(
    start_emulator: Start, clock: ManualClock
) -> None:
    emulator = start_emulator(admin_port=0, clock=clock, key_vault=True)

    def submit(action: str, **form: str) -> None:
        url = f"{emulator.admin_url}/do/{action}"
        sent = requests.post(url, form, timeout=10, allow_redirects=False)
        assert sent.status_code == 303

    def page(view: str) -> str:
        return requests.get(f"{emulator.admin_url}/?view={view}", timeout=10).text

    now = emulator._state.clock.time()
    submit("settings", limits="on", latency="0.5", token_lifetime="60")
    assert emulator._state.settings() == (True, 0.5, 60)
    submit("clock", advance="3600")
    submit("clock", stopped="on")
    assert emulator._state.clock.time() == now + 3600
    assert emulator._state.clock.is_stopped
    submit("identity", kind="user-assigned", name="two")
    added = emulator.identities[-1]
    assert added.client_id in page("identities")
    submit("remove-identity", client_id=added.client_id)
    submit("remove-identity", client_id=added.client_id)
    assert added not in emulator.identities
    submit("secret", name="password", value="hunter2")
    assert emulator.key_vault.secrets["password"] == "hunter2"
    assert "<code>password</code>" in page("settings")
    assert "hunter2" not in page("settings")
    submit("delete-secret", name="password")
    assert "password" not in emulator.key_vault.secrets


@pytest.mark.parametrize(
    ("form", "fields", "message"),
    [
        ("settings", {"latency": "-1"}, "latency cannot be negative"),
        ("clock", {"advance": "-1e12"}, "between the years 1970 and 9000"),
        ("identity", {"name": "emulated-identity"}, "Two identities have the same client_id"),
        ("secret", {"name": "a b"}, "name must be 1 to 127 letters"),
    ],
)
def test_rejected_change_is_explained_on_the_page(
    start_emulator: Start, form: str, fields: dict[str, str], message: str
) -> None:
    emulator = start_emulator(admin_port=0, key_vault=form == "secret")
    response = requests.post(f"{emulator.admin_url}/do/{form}", fields, timeout=10)
    assert response.status_code == 400
    _, _, shown = response.text.partition(f'id="{form}"')
    assert message in html.unescape(shown)


def test_form_returns_to_the_view_that_it_was_sent_from(admin: Send) -> None:
    form, path = {"status": "500"}, "/do/fault?search=a&view=faults"
    assert admin("POST", path, data=form).headers["Location"] == "/?search=a&view=faults"
    rejected = admin("POST", path, data={"status": "x"}).text
    assert 'action="/do/fault?search=a&amp;view=faults"' in rejected


@pytest.mark.parametrize(
    "query",
    ["view=99", "view=nothing", "view=faults.html", "status=x", "before=x", "before=9" * 30],
)
def test_unknown_view_shows_the_requests(admin: Send, query: str) -> None:
    response = admin("GET", "/?" + query)
    assert response.status_code == 200
    assert 'id="requests"' in response.text


def test_reset_and_revoke_are_confirmed_first(
    emulator: Emulator, admin: Send, request_token: Send
) -> None:
    request_token(emulator)
    text = admin("GET", "/?view=tokens").text
    for action in ("reset", "revoke"):
        before, _, _ = text.partition(f'action="/do/{action}')
        assert "popover " in before.rpartition("<div")[2]


def test_requests_from_its_own_origin_are_accepted(emulator: Emulator, admin: Send) -> None:
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
def test_other_sites_cannot_change_anything(
    emulator: Emulator, admin: Send, request_token: Send, headers: Any, path: Any
) -> None:
    request_token(emulator)
    assert admin("POST", path, headers=headers, json={"status": 500}).status_code == 403
    assert len(emulator.requests) == 1
    assert emulator.faults == []


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_rebound_dns_name_is_rejected(admin: Send, host: Any, method: Any) -> None:
    assert admin(method, "/api/requests", headers={"Host": host}).status_code in (400, 421)


def test_form_is_not_accepted_as_json(admin: Send, emulator: Emulator) -> None:
    body = json.dumps({"status": 500})
    response = admin("POST", "/api/faults", data=body, headers={"Content-Type": "text/plain"})
    assert response.status_code == 415
    assert emulator.faults == []
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}  # types are case-insensitive
    assert admin("POST", "/api/faults", data=body, headers=headers).status_code == 201


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
        ("DELETE", "/api/events?event_id=x", None, 404),
        ("DELETE", "/api/events", None, 400),
        ("GET", "/api/requests?after=x", None, 400),
        ("GET", "/nothing", None, 404),
        ("PUT", "/api/faults", None, 405),
        ("GET", "/do/reset", None, 405),
    ],
)
def test_invalid_api_request_gets_an_error_message(
    admin: Send, method: Any, path: Any, body: Any, status: Any
) -> None:
    response = admin(method, path, json=body)
    assert response.status_code == status
    assert response.json()["error"]
    assert admin("GET", "/").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "code", "field", "text"),
    [
        ("POST", "/api/faults", {"statu": 500}, "unknown-attribute", "statu", "mean status?"),
        ("POST", "/api/faults", {"xyz": 500}, "unknown-attribute", "xyz", "The attributes are"),
        ("POST", "/api/faults", {"status": 1}, "invalid", "status", "between 200 and 599"),
        ("POST", "/api/events", {"notise": 5}, "unknown-attribute", "notise", "mean notice?"),
        ("DELETE", "/api/faults?number=x", None, "invalid", "number", "a whole number, not 'x'"),
        ("DELETE", "/api/events?event_id=x", None, "not-found", "event_id", "the id 'x'"),
        ("DELETE", "/api/events", None, "missing-parameter", "event_id", "event_id is missing"),
        (
            "PUT",
            "/api/faults",
            None,
            "method-not-allowed",
            None,
            "not support PUT, but DELETE, GET",
        ),
        ("GET", "/api/fault", None, "not-found", None, "Did you mean /api/faults?"),
    ],
)
def test_api_error_has_a_code_and_a_field(
    admin: Send, method: Any, path: Any, body: Any, code: str, field: Any, text: str
) -> None:
    document = admin(method, path, json=body).json()
    assert (document["code"], document.get("field")) == (code, field)
    assert text in document["error"]


def test_there_is_no_page_without_an_admin_port(start_emulator: Start) -> None:
    assert start_emulator().admin_url is None


@pytest.mark.parametrize(
    ("path", "field", "value", "message"),
    [
        ("/do/fault", "status", "often", "This must be a whole number."),
        ("/do/fault", "status", "99", "must be between 200 and 599"),
        ("/do/fault", "times", "0", "cannot be 0"),
        ("/do/fault", "delay", "soon", "This must be a number."),
        ("/do/event", "notice", "-1", "between 0 and ten years"),
        ("/do/event", "duration", "long", "This must be a whole number."),
    ],
)
def test_error_is_shown_next_to_its_field(
    admin: Send, emulator: Emulator, path: str, field: str, value: str, message: str
) -> None:
    response = admin(
        "POST", path, data={"status": "503", field: value} if "fault" in path else {field: value}
    )
    assert response.status_code == 400
    _, _, after = response.text.partition(f'<input name="{field}"')
    assert message in after[:400]
    assert f'value="{value}"' in after[:100]
    assert emulator.faults == []
    assert emulator.events == []


def test_form_sets_headers_one_per_line(admin: Send, emulator: Emulator) -> None:
    rejected = admin("POST", "/do/fault", data={"headers": "no colon"})
    assert rejected.status_code == 400
    _, _, after = rejected.text.partition('<textarea name="headers"')
    assert ">no colon</textarea>" in after
    assert "must be lines of Name: value" in after[:500]
    admin("POST", "/do/fault", data={"headers": "X-One: 1\r\nX-Two: 2"})
    assert emulator.faults[0][1].headers == {"X-One": "1", "X-Two": "2"}


def test_fault_without_effect_is_rejected(admin: Send) -> None:
    response = admin("POST", "/do/fault", data={"times": "1"})
    assert "This fault has no effect" in response.text


def test_event_can_be_approved_on_the_page(admin: Send, emulator: Emulator) -> None:
    event_id = emulator.schedule_event()
    admin("POST", "/do/approve-event", data={"event_id": event_id})
    assert emulator.events[0].status == "Started"


@pytest.mark.parametrize(
    "profile",
    [
        *("vm", "arc", "app-service", "stack-hub", "functions", "container-apps", "azure-ml"),
        *("cloud-shell", "service-fabric", "aci", "workload-identity"),
        "identity-binding",
    ],
)
def test_page_shows_environment_variables_and_identities(
    start_emulator: Start, profile: str
) -> None:
    emulator = start_emulator(profile, admin_port=0)
    text = html.unescape(requests.get(f"{emulator.admin_url}/?view=identities", timeout=10).text)
    for name, value in emulator.environment().items():
        assert f"export {name}={shlex.quote(value)}" in text
    for identity in emulator.identities:
        assert identity.client_id in text


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize(
    "profile", ["vm", "arc", "app-service", "workload-identity", "identity-binding"]
)
@pytest.mark.parametrize("number", [0, 1])
def test_curl_snippet_gets_a_token(start_emulator: Start, profile: str, number: int) -> None:
    emulator = start_emulator(profile, admin_port=0)
    text = requests.get(f"{emulator.admin_url}/?view=identities", timeout=10).text
    _, _, pane = text.partition('id="pane-identities"')
    line = re.findall(r"<strong>curl</strong>.*?<pre[^>]*>(.*?)</pre>", pane, re.DOTALL)[number]
    environment = {**os.environ, **emulator.environment()}
    command = ["sh", "-c", html.unescape(line)]
    output = subprocess.check_output(command, text=True, env=environment)
    token = json.loads(output)["access_token"]
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["appid"] == emulator.identities[number].client_id


def test_only_static_files_are_served_below_static(admin: Send) -> None:
    assert "css" in admin("GET", "/static/page.css").headers["Content-Type"]
    for path in ("/static/../api.py", "/static/%2e%2e/api.py", "/static/", "/static/x.css"):
        assert admin("GET", path).status_code == 404


@pytest.mark.parametrize(
    ("fault", "effects"),
    [
        (Fault(status=429, retry_after=2), "Responds with status 429, sends Retry-After: 2 s"),
        (Fault(reset=True), "Resets the connection"),
        (Fault(no_answer=True), "Never responds"),
        (Fault(token_lifetime=-60), "Returns an expired token"),
        (
            Fault(delay=5, truncate=3),
            "Waits 5 s first, closes the connection after 3 bytes of the body",
        ),
        (Fault(document="tampered"), "Changes the attested document after signing it"),
        (
            Fault(body="ab", date_skew=3600, content_type="text/plain"),
            (
                "Sends another body of 2 bytes, sends the Content-Type text/plain, "
                "shifts the Date header by 3600 s"
            ),
        ),
    ],
)
def test_effects_of_a_fault_are_described(fault: Fault, effects: str) -> None:
    assert text.describe_effects(fault) == effects


@pytest.mark.parametrize(
    ("fault", "scope"),
    [
        (Fault(status=500), "every identity request"),
        (Fault(status=500, times=1), "the next identity request"),
        (
            Fault(status=500, times=3, after=2),
            "the next 3 identity requests, after skipping 2 requests",
        ),
        (
            Fault(status=500, category="*", probability=0.1),
            "every request, each with a probability of 10%",
        ),
        (Fault(status=500, leg="answer"), "every identity request (answer leg)"),
    ],
)
def test_scope_of_a_fault_is_described(fault: Fault, scope: str) -> None:
    assert text.describe_scope(ActiveFault(1, fault)) == scope


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (None, "pending"),
        (0, "< 1 ms"),
        (0.02, "20 ms"),
        (1.5, "1.5 s"),
        (899, "14 min 59 s"),
        (86340, "23 h 59 min"),
    ],
)
def test_durations_have_units(seconds: float | None, expected: str) -> None:
    assert text.format_duration(seconds) == expected
