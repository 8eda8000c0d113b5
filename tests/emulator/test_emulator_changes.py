"""Changes of a running emulator: its clock, settings, identities and secrets."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from emulator.support import VAULT, Send, Start, claims_of
from imds_identity.emulator import DEFAULT_USER_ASSIGNED, Emulator, ManualClock
from imds_identity.emulator._cli.config import load_config
from imds_identity.emulator._clock import AdjustableClock, parse_clock, parse_time

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Api = Callable[..., Any]
NEW_YEAR_2027 = 1_798_761_600


@pytest.fixture
def emulator(start_emulator: Start, clock: ManualClock) -> Emulator:
    return start_emulator(admin_port=0, clock=clock)


@pytest.fixture
def api(emulator: Emulator) -> Api:
    """A function that sends a request to the API, and returns the document of the response."""

    def send(method: str, path: str, body: Any = None, status: int = 200) -> Any:
        url = f"{emulator.admin_url}/api/{path}"
        response = requests.request(method, url, json=body, timeout=10)
        assert response.status_code == status, response.text
        return response.json()

    return send


def test_clock_is_moved_and_a_token_expires(
    emulator: Emulator, api: Api, clock: ManualClock, request_token: Send
) -> None:
    first = request_token(emulator).json()
    shown = api("POST", "clock", {"advance": 86_401})
    assert shown["time"] == clock.time() + 86_401
    assert request_token(emulator).json()["access_token"] != first["access_token"]
    assert api("POST", "clock", {"time": "2027-01-01T00:00:00Z"}) == {
        "stopped": False,
        "text": "2027-01-01T00:00:00Z",
        "time": NEW_YEAR_2027,
    }
    response = request_token(emulator)
    assert response.headers["Date"] == "Fri, 01 Jan 2027 00:00:00 GMT"
    assert api("POST", "clock", {"stopped": True})["stopped"]
    clock.advance(100)
    assert api("GET", "clock")["time"] == NEW_YEAR_2027
    assert api("POST", "clock", {"stopped": False, "advance": 1})["time"] == NEW_YEAR_2027 + 1
    api("POST", "reset")
    assert api("GET", "clock")["time"] == clock.time()


def test_events_follow_the_clock_at_any_speed(start_emulator: Start, clock: ManualClock) -> None:
    events_clock = ManualClock()
    emulator = start_emulator(clock=clock, events_clock=events_clock)
    emulator.schedule_event("Freeze", notice=900)
    emulator.advance_clock(900)
    assert [event.status for event in emulator.events] == ["Started"]


def test_no_clock_moves_if_one_of_them_cannot(start_emulator: Start, clock: ManualClock) -> None:
    emulator = start_emulator(admin_port=0, clock=clock, events_clock=ManualClock(60))
    with pytest.raises(ValueError, match="1970 and 9000"):
        emulator.advance_clock(-61)
    shown = requests.get(f"{emulator.admin_url}/api/clock", timeout=10).json()
    assert shown["time"] == clock.time()


def test_settings_are_changed_and_reset(emulator: Emulator, api: Api, request_token: Send) -> None:
    before = api("GET", "settings")
    assert before == {"latency": 0.0, "limits": False, "token_lifetime": 86_400}
    assert api("PATCH", "settings", {"token_lifetime": 60}) == {**before, "token_lifetime": 60}
    claims = claims_of(request_token(emulator))
    assert claims["exp"] - claims["iat"] == 60 + 300
    api("PATCH", "settings", {"limits": True})
    statuses = [request_token(emulator).status_code for _ in range(21)]
    assert statuses[-1] == 429
    api("POST", "reset")
    assert api("GET", "settings") == before


def test_identities_are_added_and_removed(
    emulator: Emulator, api: Api, request_token: Send
) -> None:
    added = api("POST", "identities", {"name": "two"}, status=201)
    assert added in api("GET", "identities")["identities"]
    assert request_token(emulator, client_id=added["client_id"]).status_code == 200
    api("DELETE", f"identities?client_id={added['client_id'].upper()}")
    assert request_token(emulator, client_id=added["client_id"]).status_code == 400
    api("DELETE", f"identities?client_id={DEFAULT_USER_ASSIGNED.client_id}")
    assert len(emulator.identities) == 1
    api("POST", "reset")
    assert len(emulator.identities) == 2


def test_secrets_are_set_and_removed_without_showing_values(
    start_emulator: Start, clock: ManualClock
) -> None:
    emulator = start_emulator(key_vault=True, admin_port=0, clock=clock)
    url = f"{emulator.admin_url}/api/secrets"
    secret = {"name": "db-password", "value": "hunter2"}
    assert requests.post(url, json=secret, timeout=10).status_code == 201
    assert emulator.key_vault.secrets["db-password"] == "hunter2"
    listed = requests.get(url, timeout=10)
    assert [each["name"] for each in listed.json()["secrets"]] == ["greeting", "db-password"]
    assert "hunter2" not in listed.text
    assert requests.delete(f"{url}?name=DB-Password", timeout=10).status_code == 200
    assert list(emulator.key_vault.secrets) == ["greeting"]
    del emulator.key_vault.secrets["greeting"]
    emulator.reset()
    assert list(emulator.key_vault.secrets) == ["greeting"]


def test_value_of_a_rejected_secret_is_not_sent_back(start_emulator: Start) -> None:
    emulator = start_emulator(key_vault=True, admin_port=0)
    form = {"name": "a b", "value": "hunter2"}
    response = requests.post(f"{emulator.admin_url}/do/secret", form, timeout=10)
    assert response.status_code == 400
    assert "a b" in response.text
    assert "hunter2" not in response.text


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "field", "text"),
    [
        ("POST", "clock", {"advence": 5}, 400, "unknown-attribute", "advence", "mean advance?"),
        ("POST", "clock", {"advance": "5"}, 400, "invalid", "advance", "must be a number"),
        ("POST", "clock", {"advance": 1e300}, 400, "invalid", "advance", "1970 and 9000"),
        ("POST", "clock", {"advance": 10**400}, 400, "invalid", "advance", "must be a number"),
        ("POST", "clock", {"time": 10**400}, 400, "invalid", "time", "must be a number"),
        ("POST", "clock", {"time": "noon"}, 400, "invalid", "time", "2027-01-01T00:00:00Z"),
        ("POST", "clock", {"time": 1, "advance": 1}, 400, "invalid", "advance", "exclude"),
        ("POST", "clock", {}, 400, "invalid", "advance", "needs advance, time or stopped"),
        ("PATCH", "settings", {"limit": True}, 400, "unknown-attribute", "limit", "mean limits?"),
        ("PATCH", "settings", {"latency": -1}, 400, "invalid", "latency", "cannot be negative"),
        ("PATCH", "settings", {"token_lifetime": 0}, 400, "invalid", "token_lifetime", "above"),
        (
            "PATCH",
            "settings",
            {"token_lifetime": 10**30},
            400,
            "invalid",
            "token_lifetime",
            "whole",
        ),
        ("POST", "identities", {"kind": "x"}, 400, "invalid", "kind", "system-assigned or"),
        ("POST", "identities", {"nam": "x"}, 400, "unknown-attribute", "nam", "mean name?"),
        ("POST", "identities", {"kind": "system-assigned"}, 409, "conflict", None, "at most one"),
        ("DELETE", "identities?client_id=x", None, 404, "not-found", "client_id", "no identity"),
        ("DELETE", "identities", None, 400, "missing-parameter", "client_id", "?client_id=…"),
        ("POST", "secrets", {"name": "a b"}, 400, "invalid", "name", "letters, digits"),
        ("POST", "secrets", {"name": "a", "value": 5}, 400, "invalid", "value", "be a string."),
        ("GET", f"requests?limit={'9' * 5000}", None, 400, "invalid", "limit", "a whole number"),
        ("DELETE", "secrets?name=none", None, 404, "not-found", "name", "no secret"),
    ],
)
def test_invalid_change_gets_an_error_with_a_code_and_a_field(
    api: Api, method: str, path: str, body: Any, status: int, code: str, field: Any, text: str
) -> None:
    document = api(method, path, body, status)
    assert (document["code"], document.get("field")) == (code, field)
    assert text in document["error"]


@given(st.lists(st.floats(-1e5, 1e5) | st.booleans(), max_size=8))
def test_a_stopped_clock_moves_only_by_advances(changes: list[float | bool]) -> None:
    base = ManualClock(1e9)
    clock = AdjustableClock(base)
    expected = 1e9
    for change in changes:
        if isinstance(change, bool):
            clock.stop(stopped=change)
        else:
            clock.advance(change)
            expected += change
        base.advance(7)
        expected += 0 if clock.is_stopped else 7
        assert clock.time() == pytest.approx(expected)


def test_clock_of_the_command_line_starts_at_a_time_or_an_offset(tmp_path: Path) -> None:
    clock = parse_clock("2027-01-01T00:00:00Z,stopped")
    assert (clock.time(), clock.is_stopped) == (NEW_YEAR_2027, True)
    assert parse_clock("-60").time() < ManualClock().time()
    assert parse_time("2027-01-01T01:00:00+01:00") == NEW_YEAR_2027
    file = tmp_path / "emulator.toml"
    file.write_text('clock = "2027-01-01T00:00:00Z,stopped"\n')
    assert load_config(file)["clock"].time() == NEW_YEAR_2027
    file.write_text('profile = "vm"\nclock = "soon"\n')
    with pytest.raises(ValueError, match="line 2: clock must be a time"):
        load_config(file)


def test_tokens_are_the_same_for_the_same_seed_and_time(
    start_emulator: Start, request_token: Send, clock: ManualClock, tmp_path: Path
) -> None:
    first, second = (start_emulator(seed=6, clock=clock, state=each) for each in (None, tmp_path))
    other = start_emulator(seed=0, clock=clock)
    tokens = [request_token(each).json()["access_token"] for each in (first, second, other)]
    assert tokens[0] == tokens[1] != tokens[2]
    first.reset()
    assert request_token(first, resource=VAULT).json()["access_token"] == tokens[0]
    assert not os.path.exists(tmp_path / "token-signing.key")
