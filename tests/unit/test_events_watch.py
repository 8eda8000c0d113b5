"""The watcher of scheduled events, against a service in memory."""

from __future__ import annotations

import json
import os
import random
import signal
import stat
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from imds_identity._http.exchange import ConnectFailed, ReadFailed
from imds_identity.metadata import errors
from metadata_support import Day, Service, document, event
from support import FakeClock, ResponseFactory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from imds_identity.metadata._events.watch import Watcher


@pytest.fixture
def service(clock: FakeClock) -> Service:
    return Service(clock)


def told(changes: Iterator[Any], number: int) -> list[tuple[str, str]]:
    return [(c.kind, c.event.event_id) for _, c in zip(range(number), changes, strict=False)]


def heard(watcher: Watcher, polls: int = 1) -> list[tuple[str, str]]:
    """What the watcher tells in so many requests."""
    found: list[tuple[str, str]] = []
    for _ in range(polls):
        watcher.ask()
        while (change := watcher.next_ready()) is not None:
            found.append((change.kind, change.event.event_id or ""))
            watcher.done(change)
    return found


def test_a_change_is_told_and_the_service_asked_once_a_second(
    service: Service, clock: FakeClock
) -> None:
    changes = iter(service.client().watch())
    service.events = [event("A")]
    assert next(changes).event.event_id == "A"
    service.events = [event("A", "Started"), event("B")]
    assert [(c.kind, c.event.event_id) for c in (next(changes), next(changes))] == [
        ("started", "A"),
        ("scheduled", "B"),
    ]
    service.events = []
    before, asked = clock.now(), len(service.asked)
    assert next(changes).kind == "gone"
    assert clock.now() - before == 1
    assert len(service.asked) - asked == 1
    # While nothing happens it goes on like that.
    service.bad = [ResponseFactory(clock).json(200, document(incarnation=n)) for n in range(50)]
    assert next(changes).event.event_id == "B"
    service.events = [event("C")]
    before, asked = clock.now(), len(service.asked)
    assert next(changes).event.event_id == "C"
    assert clock.now() - before == len(service.asked) - asked == 51


def test_a_failure_is_never_no_events(service: Service, clock: FakeClock) -> None:
    responses = ResponseFactory(clock)
    watcher = service.client().watch()
    service.events = [event("A")]
    assert heard(watcher) == [("scheduled", "A")]
    for bad in (
        ReadFailed("reset"),
        ConnectFailed("refused"),
        responses.error(410),
        responses.error(500),
        responses.error(404),
        responses.error(400),
        responses.raw(204),
        responses.raw(200, ""),
        responses.raw(200, "<html>"),
        responses.json(200, {}),
        responses.json(200, {"Events": None}),
        responses.json(200, {"Events": [{"EventStatus": "Started"}]}),
        responses.raw(302, location="http://elsewhere"),
    ):
        service.bad = [bad]
        assert heard(watcher) == []
        assert watcher.failure is not None
    assert heard(watcher) == []
    assert watcher.failure is None
    service.events = []
    assert heard(watcher) == [("gone", "A")]


def test_a_service_that_wants_to_rest_is_left_alone_so_long(
    service: Service, clock: FakeClock
) -> None:
    watcher = service.client().watch()
    watcher.ask()
    service.bad = [ResponseFactory(clock).error(429, retry_after="20")]
    watcher.ask()
    assert watcher.seconds_left() == 21
    service.bad = [ResponseFactory(clock).error(429, retry_after="9999")]
    watcher.ask()
    assert watcher.seconds_left() == 61


def test_the_first_answer_may_take_its_time(service: Service, clock: FakeClock) -> None:
    responses = ResponseFactory(clock)
    service.bad = [*[responses.error(410)] * 3, ReadFailed("reset"), responses.error(503)]
    service.events = [event("A")]
    watcher = service.client().watch()
    assert heard(watcher, 5) == []
    assert heard(watcher) == [("scheduled", "A")]


def test_even_the_first_request_is_not_slow_to_be_sent_again(
    service: Service, clock: FakeClock
) -> None:
    """Thirty seconds' notice are no time for patience."""
    service.bad = [ResponseFactory(clock).error(500)] * 3
    service.events = [event("A")]
    next(iter(service.client().watch()))
    assert clock.now() - 1000 == 3


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.MetadataRefusedError),
        (403, errors.MetadataRefusedError),
        (404, errors.MetadataNotFoundError),
    ],
)
def test_what_waiting_does_not_help_is_told_at_once(
    service: Service, clock: FakeClock, status: int, kind: type[Exception]
) -> None:
    service.bad = [ResponseFactory(clock).error(status)]
    with pytest.raises(kind):
        next(iter(service.client().watch()))


def test_a_service_may_take_two_minutes_to_come_up(service: Service, clock: FakeClock) -> None:
    service.events = [event("A")]
    service.bad = [ConnectFailed("refused")] * 20
    assert told(iter(service.client().watch()), 1) == [("scheduled", "A")]
    service.bad = [ConnectFailed("refused")] * 500
    before = clock.now()
    with pytest.raises(errors.MetadataUnavailableError):
        next(iter(service.client().watch()))
    assert 120 <= clock.now() - before < 150


def test_azure_stack_hub_has_none(service: Service, clock: FakeClock) -> None:
    service.compute = {"azEnvironment": "AzureStack"}
    service.bad = [ResponseFactory(clock).error(404)]
    with pytest.raises(errors.NotOfferedError, match="not available on Azure Stack Hub"):
        next(iter(service.client().watch()))


def test_an_outage_of_hours_at_the_start_is_waited_out(service: Service, clock: FakeClock) -> None:
    service.bad = [ResponseFactory(clock).error(500)] * 1000
    service.events = [event("A")]
    assert told(iter(service.client().watch()), 1) == [("scheduled", "A")]


def test_only_this_machine_s_events_are_told_unless_all_are_wanted(service: Service) -> None:
    service.events = [event("A", Resources=["vm-70"]), event("B", Resources=["other", "VM-7"])]
    assert heard(service.client().watch()) == [("scheduled", "B")]
    assert heard(service.client().watch(every_machine=True)) == [
        ("scheduled", "A"),
        ("scheduled", "B"),
    ]


def test_a_machine_that_does_not_know_its_name_hears_of_everything(service: Service) -> None:
    service.compute = {"location": "westeurope"}
    service.events = [event("A", Resources=["vm-70"])]
    assert heard(service.client().watch()) == [("scheduled", "A")]


def test_what_was_told_of_other_machines_is_not_told_as_gone(
    service: Service, tmp_path: Path
) -> None:
    service.events = [event("A", Resources=["vm-70"]), event("B")]
    heard(service.client().watch(every_machine=True, state_file=tmp_path / "state"))
    assert heard(service.client().watch(state_file=tmp_path / "state")) == []


def test_a_region_that_falls_back_to_an_older_version_is_followed(
    service: Service, clock: FakeClock
) -> None:
    watcher = service.client().watch()
    watcher.ask()
    complaint = {"error": "Bad request. api-version is invalid", "newest-versions": ["2019-08-01"]}
    service.bad = [ResponseFactory(clock).json(400, complaint)]
    service.events = [event("A")]
    assert heard(watcher) == [("scheduled", "A")]


def test_a_loop_that_is_left_has_told_its_last_change(service: Service, tmp_path: Path) -> None:
    file = tmp_path / "state"
    service.events = [event("A"), event("B"), event("C")]
    for number in range(3):
        for change in service.client().watch(state_file=file):
            assert change.event.event_id == "ABC"[number]
            break
    service.events = []
    with pytest.raises(RuntimeError, match="in the loop"):
        for _ in service.client().watch(state_file=file):
            raise RuntimeError("in the loop")
    assert told(iter(service.client().watch(state_file=file)), 2) == [("gone", "B"), ("gone", "C")]


def test_what_was_not_done_is_told_again_after_a_restart(service: Service, tmp_path: Path) -> None:
    file = tmp_path / "state"
    service.events = [event("A"), event("B")]
    first = service.client().watch(state_file=file)
    changes = first.changes()
    a, b = next(changes), next(changes)
    first.done(b)
    assert heard(service.client().watch(state_file=file)) == [("scheduled", "A")]
    assert a.event.event_id == "A"


def test_the_state_is_private_json_that_is_replaced_at_once(
    service: Service, tmp_path: Path
) -> None:
    file = tmp_path / "state"
    watcher = service.client().watch(state_file=file)
    assert json.loads(file.read_text()) == {"Events": []}
    service.events = [event("A", New="x")]
    heard(watcher)
    assert json.loads(file.read_text()) == {"Events": [event("A", New="x")]}
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    if sys.platform != "win32":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_that_was_forked_while_the_state_was_written_can_write_it(
    service: Service, tmp_path: Path
) -> None:
    watcher = service.client().watch(state_file=tmp_path / "state")
    service.events = [event("A")]
    watcher.ask()
    change = watcher.next_ready()
    assert change is not None
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        over.wait()

    holder = threading.Thread(target=watcher._memory._lock.do, args=(hold,))
    holder.start()
    held.wait()
    child = os.fork()
    if not child:
        signal.alarm(10)
        watcher.done(change)
        os._exit(0)
    over.set()
    holder.join()
    assert os.waitpid(child, 0)[1] == 0
    assert "A" in (tmp_path / "state").read_text()


def test_what_a_killed_watcher_left_half_written_is_removed(
    service: Service, tmp_path: Path
) -> None:
    (tmp_path / "state.0123abcd.new").write_text("{")
    (tmp_path / "state.of-mine.new").write_text("{")
    service.client().watch(state_file=tmp_path / "state")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state", "state.of-mine.new"]


@pytest.mark.skipif(sys.platform == "win32", reason="links take a privilege there")
def test_a_link_to_the_state_stays_one(service: Service, tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "state").symlink_to(tmp_path / "volume" / "state")
    service.events = [event("A")]
    heard(service.client().watch(state_file=tmp_path / "state"))
    assert (tmp_path / "state").is_symlink()
    assert json.loads((tmp_path / "volume" / "state").read_text()) == {"Events": [event("A")]}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff", b"[" * 100_000])
def test_a_file_that_is_no_state_is_refused(
    service: Service, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "state").write_bytes(content)
    with pytest.raises(ValueError, match="remove it, or name another file"):
        service.client().watch(state_file=tmp_path / "state")
    with pytest.raises(OSError, match="none") as caught:
        service.client().watch(state_file=tmp_path / "none" / "state")
    assert caught.value.filename == str(tmp_path / "none" / "state")
    with pytest.raises(ValueError, match="state_file is empty"):
        service.client().watch(state_file="")


def test_a_state_that_cannot_be_written_any_more_does_not_end_the_watch(
    service: Service, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "place").mkdir()
    file = tmp_path / "place" / "state"
    watcher = service.client().watch(state_file=file)
    file.unlink()
    (tmp_path / "place").rmdir()
    service.events = [event("A")]
    assert heard(watcher) == [("scheduled", "A")]
    assert "cannot be written" in caplog.text


def test_a_watch_can_be_ended(service: Service) -> None:
    watcher = service.client().watch()
    service.events = [event("A"), event("B")]
    seen = []
    for change in watcher:
        seen.append(change.event.event_id)
        watcher.stop()
    assert seen == ["A", "B"]
    assert watcher.stopped


def test_a_day_of_two_hundred_events(service: Service, clock: FakeClock, tmp_path: Path) -> None:
    """Restarts of service and watcher, 410s, resets, lost answers: each change once, in order."""
    day, responses, file = Day(random.Random(11), 200), ResponseFactory(clock), tmp_path / "state"
    failures: list[Any] = [
        *(
            ReadFailed("reset"),
            ConnectFailed("refused"),
            responses.error(410),
            responses.error(500),
        ),
        *(responses.raw(200, '{"Events": ['), responses.raw(200, ""), responses.error(429)),
    ]
    found: list[tuple[str, str]] = []
    watcher = service.client().watch(state_file=file)
    while not day.is_over:
        service.events = day.next_document()
        # Whatever happens in between, a sound answer comes before the next change.
        for _ in range(day.dice.choice([0, 0, 1, 5])):
            service.bad = [day.dice.choice(failures)]
            found += heard(watcher)
        if day.dice.random() < 0.1:
            watcher = service.client().watch(state_file=file)
        found += heard(watcher, day.dice.choice([1, 1, 2]))
    assert len(day.due) > 250
    assert found == day.due
