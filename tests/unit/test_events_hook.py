"""A command for each change, and approval after it."""

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
from imds_identity.metadata._events.events import ApprovalRule, Change, events_from
from imds_identity.metadata._events.hook import Hook, as_variables
from metadata_support import Service, event
from support import FakeClock, ResponseFactory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

APPROVING = ApprovalRule(margin=5.0)


class Scene:
    """A service, a watcher of it and a hook."""

    def __init__(self, clock: FakeClock, folder: Path) -> None:
        self.clock = clock
        self.folder = folder
        self.service = Service(clock)
        self.client = self.service.client()
        self.watcher = self.client.watch(state_file=folder / "state")
        self.said: list[str] = []
        self.done: list[tuple[str, str | None]] = []
        note = self.watcher.done

        def done(change: Any) -> None:
            note(change)
            self.done.append((change.kind, change.event.event_id))

        self.watcher.done = done  # type: ignore[method-assign]

    def hook(self, code: str, approval: ApprovalRule | None = APPROVING) -> Hook:
        """A hook that runs ``code`` in Python."""
        script = self.folder / "command.py"
        script.write_text(
            f"import json, os, pathlib, sys, time\nhere = {str(self.folder)!r}\n{code}"
        )
        command = f'"{sys.executable}" "{script}"'
        return Hook(command, self.client, self.watcher, approval, self.said.append)

    def scheduled(self, name: str = "A", seconds: float = 600, **other: Any) -> dict[str, Any]:
        return event(name, NotBefore=formatdate(self.clock.wall() + seconds, usegmt=True), **other)

    def hear(self, hook: Hook, *events: dict[str, Any]) -> None:
        """Have the watcher hear of these events and the hook take what is new."""
        self.service.events = list(events)
        self.watcher.ask()
        while (change := self.watcher.next_ready()) is not None:
            hook.take(change)

    def wait_for(self, number: int) -> None:
        """Wait until so many changes are done."""
        until(lambda: len(self.done) >= number)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def context(clock: FakeClock, tmp_path: Path) -> Scene:
    return Scene(clock, tmp_path)


def test_the_command_gets_the_event_on_standard_input_and_in_variables(context: Scene) -> None:
    hook = context.hook(
        "said = {'in': json.load(sys.stdin), 'env': dict(os.environ)}\n"
        "pathlib.Path(here, 'said').write_text(json.dumps(said))"
    )
    announced = context.scheduled(Description="a\x1b[31m b\n c", Resources=["vm-7"], New="x")
    context.hear(hook, announced)
    context.wait_for(1)
    said = json.loads((context.folder / "said").read_text())
    assert said["in"] == {"Change": "scheduled", **announced}
    variables = {
        name.removeprefix("IMDS_EVENT_"): value
        for name, value in said["env"].items()
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
    assert "PATH" in said["env"]


def test_the_names_of_a_whole_scale_set_reach_the_command() -> None:
    names = [f"pool_{number}" for number in range(1000)]
    said = {"Events": [event("A", Resources=names, Description="ü" * 200_000)]}
    (read,) = events_from(said).events
    variables = as_variables(Change("scheduled", read))
    assert variables["IMDS_EVENT_RESOURCES"].split() == names
    subprocess.run([sys.executable, "-c", ""], env=for_child(variables), check=True)


def test_an_event_is_approved_once_the_command_has_ended_well(context: Scene) -> None:
    hook = context.hook("")
    context.hear(hook, context.scheduled())
    context.wait_for(1)
    assert context.service.bodies == [{"StartRequests": [{"EventId": "A"}]}]
    assert context.said == []
    # What has started, or is gone, needs no approval.
    context.hear(hook, event("A", "Started"))
    context.hear(hook)
    context.wait_for(3)
    assert context.done == [("scheduled", "A"), ("started", "A"), ("gone", "A")]
    assert len(context.service.bodies) == 1


@pytest.mark.parametrize(
    ("code", "approval", "fields", "said"),
    [
        ("", None, {}, None),
        ("sys.exit(3)", APPROVING, {}, "the command for Reboot A ended with 3"),
        ("", APPROVING, {"seconds": 4}, "less than 5 s are left"),
        ("", APPROVING, {"seconds": -60}, "less than 5 s are left"),
        ("", ApprovalRule(margin=float("inf")), {}, "less than inf s are left"),
        ("", APPROVING, {"Resources": ["vm-7", "vm-8"]}, "hits other machines"),
    ],
)
def test_otherwise_it_is_not(
    context: Scene, code: str, approval: Any, fields: dict[str, Any], said: str | None
) -> None:
    context.hear(context.hook(code, approval), context.scheduled(**fields))
    context.wait_for(1)
    assert context.service.bodies == []
    assert len(context.said) == (0 if said is None else 1)
    assert said is None or said in context.said[0]


def test_what_has_changed_while_the_command_ran_counts(context: Scene) -> None:
    hook = context.hook("while not os.path.exists(here + '/go'): time.sleep(0.01)")
    context.hear(hook, context.scheduled("A"), context.scheduled("B"))
    context.hear(hook, event("A", "Started"))
    (context.folder / "go").touch()
    context.wait_for(4)
    assert context.service.bodies == []
    assert sorted(context.said) == [
        "Reboot A was not approved: it has started already",
        "Reboot B was not approved: it is gone",
    ]


def test_a_preempt_does_not_wait_for_what_is_slow(context: Scene) -> None:
    hook = context.hook(
        "slow = os.environ['IMDS_EVENT_ID'] == 'A'\n"
        "while slow and not os.path.exists(here + '/go'): time.sleep(0.01)"
    )
    context.hear(hook, context.scheduled("A"))
    preempt = context.scheduled("B", 30, EventType="Preempt")
    context.hear(hook, context.scheduled("A"), preempt)
    context.wait_for(1)
    assert context.done == [("scheduled", "B")]
    assert context.service.bodies == [{"StartRequests": [{"EventId": "B"}]}]
    (context.folder / "go").touch()
    context.wait_for(2)


def test_a_command_that_takes_longer_than_the_notice_approves_nothing(context: Scene) -> None:
    hook = context.hook("while not os.path.exists(here + '/go'): time.sleep(0.01)")
    context.hear(hook, context.scheduled("A", 30, EventType="Preempt"))
    context.clock.seconds += 26
    (context.folder / "go").touch()
    context.wait_for(1)
    assert context.service.bodies == []
    assert "less than 5 s are left" in context.said[0]


def test_the_changes_of_one_event_wait_for_one_another(context: Scene) -> None:
    hook = context.hook(
        "def write(word): open(here + '/order', 'a').write(word + ' ')\n"
        "write(os.environ['IMDS_EVENT_CHANGE'])\n"
        "time.sleep(0.05)\n"
        "write('.')"
    )
    context.hear(hook, context.scheduled())
    context.hear(hook, event("A", "Started"))
    context.hear(hook)
    context.wait_for(3)
    assert (context.folder / "order").read_text() == "scheduled . started . gone . "


def test_a_refused_approval_is_told(context: Scene) -> None:
    hook = context.hook("")
    context.hear(hook)
    context.service.events = [context.scheduled()]
    context.watcher.ask()
    context.service.bad = [ResponseFactory(context.clock).error(400)]
    change = context.watcher.next_ready()
    assert change is not None
    hook.take(change)
    context.wait_for(1)
    assert "Reboot A was not approved: the service answered 400" in context.said[0]


def test_a_change_counts_as_told_when_its_command_has_ended(context: Scene) -> None:
    hook = context.hook("while not os.path.exists(here + '/go'): time.sleep(0.01)")
    context.hear(hook, context.scheduled())
    again = context.service.client().watch(state_file=context.folder / "state")
    again.ask()
    assert again.next_ready() is not None
    (context.folder / "go").touch()
    context.wait_for(1)
    later = context.service.client().watch(state_file=context.folder / "state")
    later.ask()
    assert later.next_ready() is None


def test_no_thread_is_left_when_an_event_is_gone(context: Scene) -> None:
    before = threading.active_count()
    hook = context.hook("")
    for number in range(5):
        context.hear(hook, context.scheduled(str(number)))
    context.hear(hook)
    context.wait_for(10)
    until(lambda: threading.active_count() <= before)
