"""The watcher of scheduled events, with a fake service."""

from __future__ import annotations

import json
import os
import random
import signal
import stat
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from imds_identity._http.exchange import ConnectFailed, ReadFailed
from imds_identity.metadata import errors
from imds_identity.metadata._events import poller as poller_module
from imds_identity.metadata._events import watcher as watcher_module
from metadata_support import FakeService, RandomEvents, document, event
from support import FakeClock, ResponseFactory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imds_identity.metadata._events.watcher import Watcher


@pytest.fixture
def service(clock: FakeClock) -> FakeService:
    return FakeService(clock)


def take(changes: Iterator[Any], number: int) -> list[tuple[str, str]]:
    return [(c.kind, c.event.event_id) for _, c in zip(range(number), changes, strict=False)]


def poll(watcher: Watcher, polls: int = 1) -> list[tuple[str, str]]:
    """Return the changes of ``polls`` requests, and record them as handled."""
    found: list[tuple[str, str]] = []
    for _ in range(polls):
        watcher.ask()
        while (change := watcher.next_ready()) is not None:
            found.append((change.kind, change.event.event_id or ""))
            watcher.done(change)
    return found


def wait_for_change(watcher: Watcher, clock: FakeClock) -> tuple[str, str | None]:
    """Return the next change, after as many requests and pauses as the poller would make."""
    while (change := watcher.next_ready()) is None:
        clock.sleep(max(0.0, watcher.seconds_left()))
        watcher.ask()
    return change.kind, change.event.event_id


def test_the_service_is_polled_once_a_second(service: FakeService, clock: FakeClock) -> None:
    watcher = service.client().watch()
    service.events = [event("A")]
    assert wait_for_change(watcher, clock) == ("scheduled", "A")
    before, requested = clock.now(), len(service.requested)
    # Polling continues while nothing changes.
    service.outcomes = [
        ResponseFactory(clock).json(200, document(event("A"), incarnation=n)) for n in range(50)
    ]
    service.events = [event("A", "Started"), event("B")]
    assert wait_for_change(watcher, clock) == ("started", "A")
    assert clock.now() - before == len(service.requested) - requested == 51
    assert wait_for_change(watcher, clock) == ("scheduled", "B")
    assert clock.now() - before == 51


def test_changes_during_a_slow_loop_body_are_returned(service: FakeService) -> None:
    service.events = [event("A")]
    watcher = service.client().watch()
    found, release = [], threading.Event()
    send = service.send

    def send_next(request: Any) -> Any:
        response = send(request)
        if "scheduledevents" in request.url:  # B comes and goes while the body handles A
            states = [[event("B"), event("A")], [event("A")]]
            number = service.requested.count("GET scheduledevents")
            service.events = states[min(number, 2) - 1]
            if number > 2:
                release.set()
        return response

    service.send = send_next  # type: ignore[method-assign]
    for change in watcher:
        found.append((change.kind, change.event.event_id))
        assert release.wait(10)
        if len(found) == 3:
            watcher.stop()
    assert found == [("scheduled", "A"), ("scheduled", "B"), ("gone", "B")]
    assert watcher.lost == 0


def test_the_oldest_changes_are_dropped_and_counted(
    service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher_module, "MAX_WAITING", 2)
    watcher = service.client().watch()
    service.events = [event(name) for name in "ABCDE"]
    watcher.ask()
    assert watcher.lost == 3
    assert [change.event.event_id for change in iter(watcher.next_ready, None)] == ["D", "E"]


def test_failures_are_logged_once_and_passed_to_a_hook(
    service: FakeService, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    failures: list[Exception] = []

    def on_failure(error: Exception) -> None:
        failures.append(error)
        raise RuntimeError("in the hook")

    service.outcomes = [ResponseFactory(clock).error(500)] * 3
    service.events = [event("A")]
    with caplog.at_level("INFO", "imds_identity"):
        watcher = service.client().watch(on_failure=on_failure)
        assert next(iter(watcher)).event.event_id == "A"
    assert [type(each) for each in failures] == [errors.MetadataRefusedError] * 3
    logged = [each.getMessage() for each in caplog.records]
    assert sum("HTTP 500" in each for each in logged) == 1
    assert sum("on_failure raised" in each for each in logged) == 3
    assert "scheduled events: the service responds again" in logged


def test_the_iteration_ends_during_a_request(service: FakeService) -> None:
    responding, requested = threading.Event(), threading.Event()

    def hang(request: Any) -> Any:
        requested.set()
        responding.wait(30)
        raise ReadFailed("reset")

    service.send = hang  # type: ignore[method-assign]
    watcher = service.client().watch()
    listener = threading.Thread(target=lambda: list(watcher))
    listener.start()
    assert requested.wait(10)
    watcher.stop()
    listener.join(10)
    assert not listener.is_alive()
    assert not responding.is_set()
    responding.set()


def test_polling_ends_with_the_loop(service: FakeService) -> None:
    service.events = [event("A")]
    watcher = service.client().watch()
    changes = iter(watcher)
    next(changes)
    run = watcher.poller._current
    assert run is not None
    assert not run.stopped
    changes.close()  # type: ignore[attr-defined]
    assert run.stopped


def test_watcher_polls_once_a_thread_can_be_started(
    service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_run: object) -> None:
        raise RuntimeError("can't start new thread")

    service.events = [event("A")]
    watcher = service.client().watch()
    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(poller_module, "start_thread", fail)
        next(iter(watcher))
    assert next(iter(watcher)).event.event_id == "A"
    watcher.stop()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_polls_for_itself(service: FakeService) -> None:
    service.events = [event("A")]
    changes = iter(service.client().watch())
    next(changes)
    service.events = [event("A"), event("B")]
    child = os.fork()
    if not child:
        signal.alarm(10)
        os._exit(0 if next(changes).event.event_id == "B" else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_failure_never_counts_as_no_events(service: FakeService, clock: FakeClock) -> None:
    responses = ResponseFactory(clock)
    watcher = service.client().watch()
    service.events = [event("A")]
    assert poll(watcher) == [("scheduled", "A")]
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
        service.outcomes = [bad]
        assert poll(watcher) == []
        assert watcher.failure is not None
    assert poll(watcher) == []
    assert watcher.failure is None
    service.events = []
    assert poll(watcher) == [("gone", "A")]


def test_retry_after_delays_the_next_request_by_at_most_a_minute(
    service: FakeService, clock: FakeClock
) -> None:
    watcher = service.client().watch()
    watcher.ask()
    service.outcomes = [ResponseFactory(clock).error(429, retry_after="20")]
    watcher.ask()
    assert watcher.seconds_left() == 21
    service.outcomes = [ResponseFactory(clock).error(429, retry_after="9999")]
    watcher.ask()
    assert watcher.seconds_left() == 61


def test_the_first_requests_may_fail(service: FakeService, clock: FakeClock) -> None:
    responses = ResponseFactory(clock)
    service.outcomes = [*[responses.error(410)] * 3, ReadFailed("reset"), responses.error(503)]
    service.events = [event("A")]
    watcher = service.client().watch()
    assert poll(watcher, 5) == []
    assert poll(watcher) == [("scheduled", "A")]


def test_failed_first_requests_are_repeated_after_a_second(
    service: FakeService, clock: FakeClock
) -> None:
    """A notice of thirty seconds leaves no time for longer pauses."""
    service.outcomes = [ResponseFactory(clock).error(500)] * 3
    service.events = [event("A")]
    assert wait_for_change(service.client().watch(), clock) == ("scheduled", "A")
    assert clock.now() - 1000 == 3


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.MetadataRefusedError),
        (403, errors.MetadataRefusedError),
        (404, errors.MetadataNotFoundError),
    ],
)
def test_a_permanent_error_is_raised_immediately(
    service: FakeService, clock: FakeClock, status: int, kind: type[Exception]
) -> None:
    service.outcomes = [ResponseFactory(clock).error(status)]
    with pytest.raises(kind):
        next(iter(service.client().watch()))


def test_a_service_may_take_two_minutes_to_start(service: FakeService, clock: FakeClock) -> None:
    service.events = [event("A")]
    service.outcomes = [ConnectFailed("refused")] * 20
    assert wait_for_change(service.client().watch(), clock) == ("scheduled", "A")
    service.outcomes = [ConnectFailed("refused")] * 500
    before = clock.now()
    with pytest.raises(errors.MetadataUnavailableError):
        wait_for_change(service.client().watch(), clock)
    assert 120 <= clock.now() - before < 150


def test_azure_stack_hub_does_not_support_scheduled_events(
    service: FakeService, clock: FakeClock
) -> None:
    service.compute = {"azEnvironment": "AzureStack", "name": "vm-7"}
    service.outcomes = [ResponseFactory(clock).error(404)]
    with pytest.raises(errors.UnsupportedOnHostError, match="not available on Azure Stack Hub"):
        next(iter(service.client().watch()))


def test_polling_continues_during_an_outage_at_the_start(
    service: FakeService, clock: FakeClock
) -> None:
    service.outcomes = [ResponseFactory(clock).error(500)] * 1000
    service.events = [event("A")]
    assert take(iter(service.client().watch()), 1) == [("scheduled", "A")]


def test_events_of_other_machines_are_returned_only_on_request(service: FakeService) -> None:
    service.events = [event("A", Resources=["vm-70"]), event("B", Resources=["other", "VM-7"])]
    assert poll(service.client().watch()) == [("scheduled", "B")]
    assert poll(service.client().watch(every_machine=True)) == [
        ("scheduled", "A"),
        ("scheduled", "B"),
    ]


def test_names_of_the_caller_replace_those_of_the_instance_document(service: FakeService) -> None:
    service.events = [event("A", Resources=["vm-7"]), event("B", Resources=["pool_3"])]
    for names in (["POOL_3"], "POOL_3"):
        watcher = service.client().watch(names=names)
        assert poll(watcher) == [("scheduled", "B")]
        assert watcher.names == frozenset({"pool_3"})
    assert service.requested == ["GET scheduledevents"] * 2


@pytest.mark.parametrize("compute", [{}, {"location": "westeurope"}, {"name": ""}])
def test_no_event_is_returned_while_the_name_of_the_machine_is_unknown(
    service: FakeService, clock: FakeClock, compute: dict[str, Any]
) -> None:
    service.compute = compute
    service.events = [event("A", Resources=["vm-70"]), event("B")]
    watcher, every = service.client().watch(), service.client().watch(every_machine=True)
    assert poll(watcher) == []
    assert poll(every) == [("scheduled", "A"), ("scheduled", "B")]
    for each in (watcher, every):
        assert each.names is None
        assert "a partial instance document, without" in str(each.failure)
    requested = len(service.requested)
    assert poll(every) == []
    assert len(service.requested) == requested + 1  # names are requested every ten seconds only
    service.compute = {"name": "vm-7"}
    assert poll(watcher) == [("scheduled", "B")]
    clock.sleep(10)
    assert poll(every) == []
    assert every.names == watcher.names
    assert watcher.failure is every.failure is None


def test_a_partial_document_is_returned_but_not_cached(service: FakeService) -> None:
    client, service.network = service.client(), {}
    assert client.compute().name == "vm-7"
    with pytest.raises(errors.MalformedMetadataError, match="without network/interface"):
        client.get("network/interface")
    service.network = {"interface": [{"macAddress": "000D3A000004"}]}
    assert client.network().interfaces[0].mac_address == "00:0d:3a:00:00:04"
    requested = len(service.requested)
    assert client.compute(refresh=False).name == "vm-7"
    assert len(service.requested) == requested


def test_a_cached_document_has_a_maximum_age(service: FakeService, clock: FakeClock) -> None:
    client = service.client()

    def requests_for(**arguments: Any) -> int:
        before = len(service.requested)
        client.compute(**arguments)
        return len(service.requested) - before

    assert requests_for() == 1
    clock.sleep(60)
    assert requests_for(max_age=60) == requests_for() == 0
    clock.sleep(1)
    assert requests_for(max_age=60) == 1
    assert requests_for(max_age=0) == 0
    client.clear()
    assert requests_for() == 1
    with pytest.raises(ValueError, match="max_age takes a number of seconds, not -1"):
        client.instance(max_age=-1)


def test_require_waits_for_the_machine_part(service: FakeService, clock: FakeClock) -> None:
    service.compute = {}
    with pytest.raises(errors.MalformedMetadataError, match="without compute"):
        service.client().require(5)
    assert clock.now() - 1000 < 6


def test_handled_events_of_other_machines_are_not_returned_as_gone(
    service: FakeService, tmp_path: Path
) -> None:
    service.events = [event("A", Resources=["vm-70"]), event("B")]
    poll(service.client().watch(every_machine=True, state_file=tmp_path / "state"))
    assert poll(service.client().watch(state_file=tmp_path / "state")) == []


def test_the_version_is_negotiated_again_after_a_version_error(
    service: FakeService, clock: FakeClock
) -> None:
    watcher = service.client().watch()
    watcher.ask()
    error = {"error": "Bad request. api-version is invalid", "newest-versions": ["2019-08-01"]}
    service.outcomes = [ResponseFactory(clock).json(400, error)]
    service.events = [event("A")]
    assert poll(watcher) == [("scheduled", "A")]


def test_leaving_the_loop_records_the_last_change(service: FakeService, tmp_path: Path) -> None:
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
    assert take(iter(service.client().watch(state_file=file)), 2) == [("gone", "B"), ("gone", "C")]


def test_a_change_that_was_not_done_is_returned_again_after_a_restart(
    service: FakeService, tmp_path: Path
) -> None:
    file = tmp_path / "state"
    service.events = [event("A"), event("B")]
    first = service.client().watch(state_file=file)
    changes = first.changes()
    a, b = next(changes), next(changes)
    first.done(b)
    assert poll(service.client().watch(state_file=file)) == [("scheduled", "A")]
    assert a.event.event_id == "A"


def test_the_state_file_is_private_json_that_is_replaced_atomically(
    service: FakeService, tmp_path: Path
) -> None:
    file = tmp_path / "state"
    watcher = service.client().watch(state_file=file)
    assert json.loads(file.read_text()) == {"Events": []}
    service.events = [event("A", New="x")]
    poll(watcher)
    assert json.loads(file.read_text()) == {"Events": [event("A", New="x")]}
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    if sys.platform != "win32":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_that_was_forked_during_a_write_can_write(
    service: FakeService, tmp_path: Path
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

    holder = threading.Thread(target=watcher._handled._lock.run, args=(hold,))
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


def test_temporary_files_of_a_killed_watcher_are_removed(
    service: FakeService, tmp_path: Path
) -> None:
    (tmp_path / "state.0123abcd.new").write_text("{")
    (tmp_path / "state.other.new").write_text("{")
    service.client().watch(state_file=tmp_path / "state")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state", "state.other.new"]


def test_the_state_file_stays_where_it_was_when_the_program_changes_its_directory(
    service: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    watcher = service.client().watch(state_file="state")
    monkeypatch.chdir(tmp_path / "elsewhere")
    service.events = [event("A")]
    poll(watcher)
    assert json.loads((tmp_path / "state").read_text()) == {"Events": [event("A")]}
    assert os.listdir(tmp_path / "elsewhere") == []


@pytest.mark.skipif(sys.platform == "win32", reason="links take a privilege there")
def test_a_symbolic_link_to_the_state_file_is_kept(service: FakeService, tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "state").symlink_to(tmp_path / "volume" / "state")
    service.events = [event("A")]
    poll(service.client().watch(state_file=tmp_path / "state"))
    assert (tmp_path / "state").is_symlink()
    assert json.loads((tmp_path / "volume" / "state").read_text()) == {"Events": [event("A")]}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="requires root")
@pytest.mark.parametrize("kind", ["link", "file"])
def test_state_file_that_another_user_may_have_created_is_refused(
    service: FakeService, tmp_path: Path, kind: str
) -> None:
    """In /tmp, a link would let root write anywhere, and a file could hide events."""
    state, target = tmp_path / "state", tmp_path / "target"
    state.symlink_to(target) if kind == "link" else state.write_text('{"Events": []}')
    os.lchown(state, 12345, 12345)
    with pytest.raises(PermissionError, match="user 12345"):
        service.client().watch(state_file=state)
    assert not target.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX files")
@pytest.mark.parametrize("kind", ["pipe", "device", "directory"])
def test_state_file_that_is_not_a_regular_file_is_refused(
    service: FakeService, tmp_path: Path, kind: str
) -> None:
    path = {"pipe": tmp_path / "pipe", "device": Path(os.devnull), "directory": tmp_path}[kind]
    if kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(OSError, match="not a regular file"):
        service.client().watch(state_file=path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff", b"[" * 100_000])
def test_anything_but_a_state_file_is_refused(
    service: FakeService, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "state").write_bytes(content)
    with pytest.raises(ValueError, match="remove it, or choose another file"):
        service.client().watch(state_file=tmp_path / "state")
    with pytest.raises(OSError, match="none") as caught:
        service.client().watch(state_file=tmp_path / "none" / "state")
    assert caught.value.filename == str(tmp_path / "none" / "state")
    with pytest.raises(ValueError, match="state_file is empty"):
        service.client().watch(state_file="")


def test_a_failed_write_does_not_end_the_watch(
    service: FakeService, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "directory").mkdir()
    file = tmp_path / "directory" / "state"
    watcher = service.client().watch(state_file=file)
    file.unlink()
    (tmp_path / "directory").rmdir()
    service.events = [event("A")]
    assert poll(watcher) == [("scheduled", "A")]
    assert "cannot write" in caplog.text


def test_a_watch_can_be_stopped(service: FakeService) -> None:
    watcher = service.client().watch()
    service.events = [event("A"), event("B")]
    seen = []
    for change in watcher:
        seen.append(change.event.event_id)
        watcher.stop()
    assert seen == ["A", "B"]
    assert watcher.stopped


def test_changes_of_two_hundred_events_are_returned_once_and_in_order(
    service: FakeService, clock: FakeClock, tmp_path: Path
) -> None:
    """The service and the watcher restart, and requests fail in many ways."""
    random_events = RandomEvents(random.Random(11), 200)
    responses, file = ResponseFactory(clock), tmp_path / "state"
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
    while not random_events.is_over:
        service.events = random_events.next_document()
        # A valid response always comes before the next change.
        for _ in range(random_events.random.choice([0, 0, 1, 5])):
            service.outcomes = [random_events.random.choice(failures)]
            found += poll(watcher)
        if random_events.random.random() < 0.1:
            watcher = service.client().watch(state_file=file)
        found += poll(watcher, random_events.random.choice([1, 1, 2]))
    assert len(random_events.expected) > 250
    assert found == random_events.expected
