from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_identity.emulator import Emulator, ManualClock, ScaledClock
from imds_identity.emulator._state.events import Events, EventSpec, NoSuchEventError

if TYPE_CHECKING:
    import requests

    from emulator.support import Send, Start

PATH = "/metadata/scheduledevents"


@pytest.fixture
def emulator(start_emulator: Start, clock: ManualClock) -> Any:
    return start_emulator(clock=clock)


@pytest.fixture
def read(emulator: Emulator, get: Send) -> Any:
    return lambda version="2020-07-01": get(emulator, PATH, api_version=version).json()


@pytest.fixture
def approve(emulator: Emulator, http: requests.Session) -> Any:
    def send(**body: Any) -> Any:
        url = f"{emulator.endpoint}{PATH}?api-version=2020-07-01"
        return http.post(url, **body)

    return send


def test_there_are_no_events_at_first(read: Any) -> None:
    assert read() == {"DocumentIncarnation": 1, "Events": []}


def test_event_is_scheduled_then_started_then_gone(
    emulator: Emulator, read: Any, clock: ManualClock
) -> None:
    event_id = emulator.schedule_event("Reboot", runs=30, description="Host maintenance")
    assert read() == {
        "DocumentIncarnation": 2,
        "Events": [
            {
                "EventId": event_id,
                "EventStatus": "Scheduled",
                "EventType": "Reboot",
                "ResourceType": "VirtualMachine",
                "Resources": [emulator.machine.name],
                "NotBefore": "Fri, 15 Jan 2027 08:15:00 GMT",
                "Description": "Host maintenance",
                "EventSource": "Platform",
                "DurationInSeconds": -1,
            }
        ],
    }
    clock.advance(900)
    document = read()
    assert document["DocumentIncarnation"] == 3
    assert document["Events"][0]["EventStatus"] == "Started"
    assert document["Events"][0]["NotBefore"] == ""
    clock.advance(30)
    assert read() == {"DocumentIncarnation": 4, "Events": []}


def test_incarnation_counts_changes_between_two_requests(
    emulator: Emulator, read: Any, clock: ManualClock
) -> None:
    emulator.schedule_event("Freeze")
    clock.advance(100_000)
    assert read() == {"DocumentIncarnation": 4, "Events": []}


def test_older_versions_have_fewer_fields(emulator: Emulator, read: Any) -> None:
    emulator.schedule_event("Preempt", source="User")
    (event,) = read("2019-01-01")["Events"]
    assert "EventSource" not in event
    assert "Description" not in event


def test_approved_event_starts_immediately(emulator: Emulator, read: Any, approve: Send) -> None:
    event_id = emulator.schedule_event("Redeploy")
    response = approve(json={"StartRequests": [{"EventId": event_id.lower()}]})
    assert response.status_code == 200
    assert read()["Events"][0]["EventStatus"] == "Started"
    again = approve(json={"StartRequests": [{"EventId": event_id}]})
    assert again.status_code == 200
    assert read()["DocumentIncarnation"] == 3


def test_approval_can_be_chunked(emulator: Emulator, read: Any, approve: Send) -> None:
    event_id = emulator.schedule_event("Redeploy")
    body = [b'{"StartRequests": [{"Eve', b'ntId": "', event_id.encode(), b'"}]}']
    assert approve(data=iter(body)).status_code == 200
    assert read()["Events"][0]["EventStatus"] == "Started"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"StartRequests": []}',
        b'{"StartRequests": [1]}',
        b'{"StartRequests": [{"EventId": 7}]}',
        b'{"StartRequests": [{"EventId": "unknown"}]}',
        b"[" * 50_000,
        b"\xff\xfe\x00",
    ],
)
def test_malformed_approval_gets_400_and_starts_no_event(
    emulator: Emulator, read: Any, approve: Send, body: Any
) -> None:
    emulator.schedule_event()
    assert approve(data=body).status_code == 400
    assert read()["Events"][0]["EventStatus"] == "Scheduled"


def test_event_can_be_canceled(emulator: Emulator, read: Any) -> None:
    emulator.cancel_event(emulator.schedule_event())
    assert read() == {"DocumentIncarnation": 3, "Events": []}
    with pytest.raises(LookupError):
        emulator.cancel_event("unknown")


@pytest.mark.parametrize(
    "invalid",
    [{"event_type": "Party"}, {"source": "Me"}, {"notice": -1}, {"runs": -1}],
)
def test_invalid_event_is_rejected(emulator: Emulator, invalid: Any) -> None:
    with pytest.raises(ValueError, match="event"):
        emulator.schedule_event(**invalid)


def test_events_can_have_a_faster_clock(
    start_emulator: Start, get: Send, clock: ManualClock
) -> None:
    fast = ManualClock()
    emulator = start_emulator(clock=clock, events_clock=fast)
    emulator.schedule_event("Freeze")
    fast.advance(900)
    assert emulator.events[0].status == "Started"


def test_scaled_clock_starts_now_and_runs_faster() -> None:
    clock = ScaledClock(1_000_000)
    first = clock.time()
    while clock.time() < first + 1000:
        pass
    with pytest.raises(ValueError, match="above zero"):
        ScaledClock(0)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("schedule"), st.sampled_from(["Freeze", "Preempt", "Terminate"])),
        st.tuples(st.just("advance"), st.floats(0, 2000)),
        st.tuples(st.just("approve"), st.integers(0, 5)),
        st.tuples(st.just("cancel"), st.integers(0, 5)),
        st.tuples(st.just("look"), st.none()),
    ),
    max_size=30,
)


@given(STEPS)
def test_incarnation_changes_exactly_when_the_events_do(steps: Any) -> None:
    clock = ManualClock(0)
    events = Events(clock, "machine")
    seen = (events.current(), events.incarnation)
    for step, value in steps:
        ids = [event.event_id for event in events.current()]
        if step == "schedule":
            events.schedule(EventSpec(value))
        elif step == "advance":
            clock.advance(value)
        elif step == "approve" and value < len(ids):
            events.approve([ids[value]])
        elif step == "cancel" and value < len(ids):
            events.cancel(ids[value])
        new = (events.current(), events.incarnation)
        if new[0] != seen[0]:
            assert new[1] > seen[1]
        elif step in {"look", "approve"}:
            assert new == seen
        seen = new
    with pytest.raises(NoSuchEventError):
        events.approve(["unknown"])
