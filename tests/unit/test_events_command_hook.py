"""Commands for changes of events, and approval afterwards."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from imds_identity._platform.environment import for_child
from imds_identity.metadata._events import command_hook, hook_process
from imds_identity.metadata._events.command_hook import (
    MAX_RUNNING,
    CommandHook,
    change_to_environment,
)
from imds_identity.metadata._events.events import ApprovalPolicy, Change, events_from_json
from metadata_support import FakeService, event
from support import FakeClock, ResponseFactory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

APPROVING = ApprovalPolicy(margin=5.0)


class Context:
    """A service, a watcher, and a hook."""

    def __init__(self, clock: FakeClock, directory: Path) -> None:
        self.clock = clock
        self.directory = directory
        self.service = FakeService(clock)
        self.client = self.service.client()
        self.watcher = self.client.watch(state_file=directory / "state")
        self.reports: list[str] = []
        self.done: list[tuple[str, str | None]] = []
        record = self.watcher.done

        def done(change: Any) -> None:
            record(change)
            self.done.append((change.kind, change.event.event_id))

        self.watcher.done = done  # type: ignore[method-assign]

    def hook(
        self,
        code: str,
        approval: ApprovalPolicy | None = APPROVING,
        seconds: float = 600,
        **options: Any,
    ) -> CommandHook:
        """Return a hook that runs ``code`` in Python."""
        script = self.directory / "command.py"
        script.write_text(
            f"import json, os, pathlib, sys, time\nhere = {str(self.directory)!r}\n{code}"
        )
        command = f'"{sys.executable}" "{script}"'
        report = self.reports.append
        start = self.client.start
        return CommandHook(command, start, self.watcher, approval, report, seconds, **options)

    def scheduled(self, name: str = "A", seconds: float = 600, **other: Any) -> dict[str, Any]:
        return event(name, NotBefore=formatdate(self.clock.wall() + seconds, usegmt=True), **other)

    def poll(self, hook: CommandHook, *events: dict[str, Any]) -> None:
        """Poll these events, and submit the changes to the hook."""
        self.service.events = list(events)
        self.watcher.ask()
        while (change := self.watcher.next_ready()) is not None:
            hook.submit(change)

    def wait_for(self, number: int) -> None:
        """Wait until ``number`` changes are done."""
        until(lambda: len(self.done) >= number)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def context(clock: FakeClock, tmp_path: Path) -> Context:
    return Context(clock, tmp_path)


def test_the_command_receives_the_event_on_standard_input_and_in_variables(
    context: Context,
) -> None:
    hook = context.hook(
        "received = {'in': json.load(sys.stdin), 'env': dict(os.environ)}\n"
        "pathlib.Path(here, 'received').write_text(json.dumps(received))"
    )
    announced = context.scheduled(Description="a\x1b[31m b\n c", Resources=["vm-7"], New="x")
    context.poll(hook, announced)
    context.wait_for(1)
    received = json.loads((context.directory / "received").read_text())
    assert received["in"] == {"Change": "scheduled", **announced}
    variables = {
        name.removeprefix("IMDS_EVENT_"): value
        for name, value in received["env"].items()
        if name.startswith("IMDS_EVENT_")
    }
    assert variables.pop("NOT_BEFORE").endswith("+00:00")
    assert variables == {
        "CHANGE": "scheduled",
        "ID": "A",
        "TYPE": "Reboot",
        "STATUS": "Scheduled",
        "RESOURCES": "vm-7",
        "SOURCE": "Platform",
        "DURATION": "",
        "DESCRIPTION": "a [31m b c",
    }
    assert "PATH" in received["env"]


def test_the_names_of_a_large_scale_set_reach_the_command() -> None:
    names = [f"pool_{number}" for number in range(1000)]
    document = {"Events": [event("A", Resources=names, Description="ü" * 200_000)]}
    (parsed,) = events_from_json(document).events
    variables = change_to_environment(Change("scheduled", parsed))
    assert variables["IMDS_EVENT_RESOURCES"].split() == names
    subprocess.run([sys.executable, "-c", ""], env=for_child(variables), check=True)


def test_a_dry_run_reports_commands_and_approvals_only(context: Context) -> None:
    hook = context.hook("pathlib.Path(here, 'ran').touch()", dry_run=True)
    shared = context.scheduled("B", Resources=["vm-7", "vm-8"])
    context.poll(hook, context.scheduled("A"))
    context.wait_for(1)
    context.poll(hook, shared)
    context.wait_for(3)
    assert not (context.directory / "ran").exists()
    assert context.service.bodies == []
    shared_reason = "it also affects other machines, where it would start immediately"
    assert sorted(context.reports) == [
        "would approve Reboot A",
        f"would not approve Reboot B: {shared_reason}",
        "would run the command for gone Reboot A",
        "would run the command for scheduled Reboot A",
        "would run the command for scheduled Reboot B",
    ]


def test_an_event_is_approved_after_the_command_has_succeeded(context: Context) -> None:
    hook = context.hook("")
    context.poll(hook, context.scheduled())
    context.wait_for(1)
    assert context.service.bodies == [{"StartRequests": [{"EventId": "A"}]}]
    assert context.reports == []
    # Started and gone events need no approval.
    context.poll(hook, event("A", "Started"))
    context.poll(hook)
    context.wait_for(3)
    assert context.done == [("scheduled", "A"), ("started", "A"), ("gone", "A")]
    assert len(context.service.bodies) == 1


@pytest.mark.parametrize(
    ("code", "approval", "fields", "report"),
    [
        ("", None, {}, None),
        ("sys.exit(3)", APPROVING, {}, "the command for Reboot A exited with status 3"),
        ("", APPROVING, {"seconds": 4}, "starts in less than 5 s"),
        ("", APPROVING, {"seconds": -60}, "starts in less than 5 s"),
        ("", ApprovalPolicy(margin=float("inf")), {}, "starts in less than inf s"),
        ("", APPROVING, {"Resources": ["vm-7", "vm-8"]}, "affects other machines"),
    ],
)
def test_an_event_is_not_approved_otherwise(
    context: Context, code: str, approval: Any, fields: dict[str, Any], report: str | None
) -> None:
    context.poll(context.hook(code, approval), context.scheduled(**fields))
    context.wait_for(1)
    assert context.service.bodies == []
    assert len(context.reports) == (0 if report is None else 1)
    assert report is None or report in context.reports[0]


def test_changes_while_the_command_runs_count(context: Context) -> None:
    hook = context.hook("while not os.path.exists(here + '/go'): time.sleep(0.01)")
    context.poll(hook, context.scheduled("A"), context.scheduled("B"))
    context.poll(hook, event("A", "Started"))
    (context.directory / "go").touch()
    context.wait_for(4)
    assert context.service.bodies == []
    assert sorted(context.reports) == [
        "did not approve Reboot A: it has started already",
        "did not approve Reboot B: it is gone",
    ]


def test_a_preempt_does_not_wait_for_a_slow_command(context: Context) -> None:
    hook = context.hook(
        "slow = os.environ['IMDS_EVENT_ID'] == 'A'\n"
        "while slow and not os.path.exists(here + '/go'): time.sleep(0.01)"
    )
    context.poll(hook, context.scheduled("A"))
    preempt = context.scheduled("B", 30, EventType="Preempt")
    context.poll(hook, context.scheduled("A"), preempt)
    context.wait_for(1)
    assert context.done == [("scheduled", "B")]
    assert context.service.bodies == [{"StartRequests": [{"EventId": "B"}]}]
    (context.directory / "go").touch()
    context.wait_for(2)


def test_an_event_is_not_approved_after_its_notice(context: Context) -> None:
    hook = context.hook("while not os.path.exists(here + '/go'): time.sleep(0.01)")
    context.poll(hook, context.scheduled("A", 30, EventType="Preempt"))
    context.clock.seconds += 26
    (context.directory / "go").touch()
    context.wait_for(1)
    assert context.service.bodies == []
    assert "starts in less than 5 s" in context.reports[0]


def test_the_changes_of_an_event_run_in_order(context: Context) -> None:
    hook = context.hook(
        "def write(word): open(here + '/order', 'a').write(word + ' ')\n"
        "write(os.environ['IMDS_EVENT_CHANGE'])\n"
        "time.sleep(0.05)\n"
        "write('.')"
    )
    context.poll(hook, context.scheduled())
    context.poll(hook, event("A", "Started"))
    context.poll(hook)
    context.wait_for(3)
    assert (context.directory / "order").read_text() == "scheduled . started . gone . "


def test_a_refused_approval_is_reported(context: Context) -> None:
    hook = context.hook("")
    context.poll(hook)
    context.service.events = [context.scheduled()]
    context.watcher.ask()
    context.service.outcomes = [ResponseFactory(context.clock).error(400)]
    change = context.watcher.next_ready()
    assert change is not None
    hook.submit(change)
    context.wait_for(1)
    assert "did not approve Reboot A: the metadata service returned HTTP 400" in context.reports[0]


def test_a_change_is_handled_when_its_command_has_ended(context: Context) -> None:
    hook = context.hook("while not os.path.exists(here + '/go'): time.sleep(0.01)")
    context.poll(hook, context.scheduled())
    restarted = context.service.client().watch(state_file=context.directory / "state")
    restarted.ask()
    assert restarted.next_ready() is not None
    (context.directory / "go").touch()
    context.wait_for(1)
    later = context.service.client().watch(state_file=context.directory / "state")
    later.ask()
    assert later.next_ready() is None


def test_the_thread_of_an_event_ends_when_the_event_is_gone(context: Context) -> None:
    before = threading.active_count()
    hook = context.hook("")
    for number in range(5):
        context.poll(hook, context.scheduled(str(number)))
    context.poll(hook)
    context.wait_for(10)
    until(lambda: threading.active_count() <= before)


class BlockedProcess:
    """A command that runs until the test ends it."""

    started: ClassVar[list[BlockedProcess]] = []
    is_over: ClassVar[bool] = False

    def __init__(self, command: str, variables: Mapping[str, str]) -> None:
        self.change = variables["IMDS_EVENT_ID"], variables["IMDS_EVENT_CHANGE"]
        self.ended = threading.Event()
        self.started.append(self)

    def communicate(self, content: bytes, seconds: float) -> int | None:
        assert self.is_over or self.ended.wait(20)
        return 0


@pytest.fixture
def blocked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[BlockedProcess]]:
    monkeypatch.setattr(command_hook, "HookProcess", BlockedProcess)
    monkeypatch.setattr(BlockedProcess, "started", [])
    monkeypatch.setattr(BlockedProcess, "is_over", False)
    yield BlockedProcess.started
    BlockedProcess.is_over = True
    for process in BlockedProcess.started:
        process.ended.set()


def test_of_400_events_few_commands_run_at_once_and_the_oldest_first(
    context: Context, blocked: list[BlockedProcess]
) -> None:
    before = threading.active_count()
    hook = context.hook("", approval=None)
    context.poll(hook, *(context.scheduled(f"E{number}") for number in range(400)))
    for first in range(0, 400, MAX_RUNNING):
        until(lambda first=first: len(blocked) >= first + MAX_RUNNING)  # type: ignore[misc]
        assert len(blocked) == first + MAX_RUNNING
        assert threading.active_count() <= before + MAX_RUNNING
        for process in blocked[first:]:
            process.ended.set()
    context.wait_for(400)
    started = [int(process.change[0][1:]) for process in blocked]
    # The threads that end their commands together may start the next ones in any order.
    batches = [started[first : first + MAX_RUNNING] for first in range(0, 400, MAX_RUNNING)]
    assert [number for batch in batches for number in sorted(batch)] == list(range(400))


def test_a_preempt_does_not_wait_for_as_many_commands_as_may_run(
    context: Context, blocked: list[BlockedProcess]
) -> None:
    """Its notice is thirty seconds. There is a limit for Preempt events, too."""
    hook = context.hook("", approval=None)
    others = [context.scheduled(f"E{number}") for number in range(2 * MAX_RUNNING)]
    context.poll(hook, *others)
    until(lambda: len(blocked) == MAX_RUNNING)
    preempts = [
        context.scheduled(f"P{number}", 30, EventType="Preempt")
        for number in range(MAX_RUNNING + 1)
    ]
    context.poll(hook, *others, *preempts)
    until(lambda: len(blocked) == 2 * MAX_RUNNING)
    preempted = [process for process in blocked if process.change[0].startswith("P")]
    assert len(preempted) == MAX_RUNNING
    preempted[0].ended.set()
    until(lambda: len(blocked) == 2 * MAX_RUNNING + 1)
    assert blocked[-1].change[0] == f"P{MAX_RUNNING}"


def test_changes_of_one_event_do_not_take_the_places_of_other_events(
    context: Context, blocked: list[BlockedProcess]
) -> None:
    hook = context.hook("", approval=None)
    context.poll(hook, context.scheduled("A"))
    for number in range(2 * MAX_RUNNING):
        context.poll(hook, context.scheduled("A", 600 + number))
    context.poll(hook, context.scheduled("A", 900), context.scheduled("B"))
    until(lambda: len(blocked) == 2)
    assert {process.change for process in blocked} == {("A", "scheduled"), ("B", "scheduled")}
    blocked[0].ended.set()
    until(lambda: len(blocked) == 3)
    assert blocked[2].change == ("A", "changed")
    BlockedProcess.is_over = True
    for process in list(blocked):
        process.ended.set()
    context.wait_for(2 * MAX_RUNNING + 2)


SLOW = """
import subprocess
if hasattr(os, "getpgid"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN) if ignore else None
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    pathlib.Path(here, "pids").write_text(f"{os.getpid()} {child.pid}")
time.sleep(600)
"""


def is_running(pid: str) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
@pytest.mark.parametrize("ignore", [False, True])
def test_command_that_runs_too_long_is_stopped_with_its_children(
    context: Context, monkeypatch: pytest.MonkeyPatch, ignore: bool
) -> None:
    monkeypatch.setattr(hook_process, "GRACE_SECONDS", 0.2 if ignore else 20)
    hook = context.hook(f"import signal\nignore = {ignore}\n{SLOW}", seconds=2)
    context.poll(hook, context.scheduled())
    context.wait_for(1)
    assert context.reports == ["stopped the command for Reboot A, which ran longer than 2 s"]
    assert context.service.bodies == []
    pids = (context.directory / "pids").read_text().split()
    until(lambda: not any(map(is_running, pids)))


def test_command_that_is_starting_is_stopped_too(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it would run on after a signal has ended the program."""
    starting, proceed = threading.Event(), threading.Event()

    class SlowlyStarted(hook_process.HookProcess):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            started.append(self)
            starting.set()
            proceed.wait(20)

    started: list[SlowlyStarted] = []
    monkeypatch.setattr(command_hook, "HookProcess", SlowlyStarted)
    hook = context.hook("time.sleep(600)")
    context.poll(hook, context.scheduled())
    assert starting.wait(20)
    timer = threading.Timer(0.05, proceed.set)
    timer.start()
    hook.stop()
    assert not started[0].is_running()
    timer.join()


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_stopped_command_does_not_count_as_handled(context: Context) -> None:
    hook = context.hook(f"ignore = False\n{SLOW}")
    context.poll(hook, context.scheduled())
    pids = context.directory / "pids"
    until(lambda: pids.exists() and bool(pids.read_text()))
    hook.stop()
    until(lambda: not any(map(is_running, pids.read_text().split())))
    context.poll(hook, context.scheduled("A"), context.scheduled("B"))
    assert context.done == []
    assert context.reports == []
    restarted = context.service.client().watch(state_file=context.directory / "state")
    restarted.ask()
    assert restarted.next_ready() is not None


def test_an_unexpected_error_does_not_stop_later_commands(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = context.watcher.done

    def done(change: Any) -> None:
        if change.event.event_id == "A":
            raise ValueError("x")
        original(change)

    monkeypatch.setattr(context.watcher, "done", done)
    hook = context.hook("")
    context.poll(hook, context.scheduled("A"))
    context.poll(hook, context.scheduled("A"), context.scheduled("B"))
    context.wait_for(1)
    until(lambda: context.reports == ["the command for Reboot A failed: ValueError('x')"])


def test_command_without_a_thread_waits_for_the_next_event(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("no thread can be started")

    hook = context.hook("", dry_run=True)
    names = "ABCDEFGHIJ"
    with monkeypatch.context() as patch:
        patch.setattr(command_hook, "start_thread", fail)
        context.poll(hook, *map(context.scheduled, names))
    assert all(
        "starts with the next event, because no thread can" in report for report in context.reports
    )
    assert len(context.reports) == len(names) > MAX_RUNNING
    context.poll(hook, *map(context.scheduled, [*names, "K"]))
    context.wait_for(len(names) + 1)
