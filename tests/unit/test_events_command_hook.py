"""Commands for changes of events, and approval afterwards."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import pytest

from imds_identity._platform.environment import for_child
from imds_identity.metadata._events.command_hook import CommandHook, change_to_environment
from imds_identity.metadata._events.events import ApprovalPolicy, Change, events_from_json
from metadata_support import FakeService, event
from support import FakeClock, ResponseFactory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

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

    def hook(self, code: str, approval: ApprovalPolicy | None = APPROVING) -> CommandHook:
        """Return a hook that runs ``code`` in Python."""
        script = self.directory / "command.py"
        script.write_text(
            f"import json, os, pathlib, sys, time\nhere = {str(self.directory)!r}\n{code}"
        )
        command = f'"{sys.executable}" "{script}"'
        return CommandHook(command, self.client.start, self.watcher, approval, self.reports.append)

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
