"""What has changed between documents of scheduled events."""

from __future__ import annotations

import datetime as dt
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_identity._core.failure import Malformed
from imds_identity.metadata._events.events import (
    ApprovalRule,
    Change,
    Differ,
    ScheduledEvent,
    approval,
    events_from,
    own_names,
    why_not_approve,
)
from imds_identity.metadata._models.compute import Compute
from metadata_support import document, event


def told(differ: Differ, *events: dict[str, Any], incarnation: Any = 1) -> list[tuple[str, str]]:
    changes = differ.changes(events_from(document(*events, incarnation=incarnation)))
    return [(change.kind, change.event.event_id or "") for change in changes]


def test_an_event_is_read_with_its_types() -> None:
    (read,) = events_from(document(event(DurationInSeconds=9, New="x"))).events
    assert read.not_before == dt.datetime(2016, 9, 19, 12, tzinfo=dt.timezone.utc)
    assert read.duration == 9
    assert read.resources == ("vm-7",)
    assert read.extra == {"New": "x"}
    (started,) = events_from(document(event(status="Started"))).events
    assert started.not_before is None
    assert started.duration is None
    assert started.has_started


def test_an_event_is_told_once_as_it_goes_on() -> None:
    differ = Differ()
    assert told(differ) == []
    assert told(differ, event()) == [("scheduled", "A")]
    assert told(differ, event(), incarnation=2) == []
    assert told(differ, event(NotBefore="Mon, 19 Sep 2016 13:00:00 GMT")) == [("changed", "A")]
    assert told(differ, event(status="Started")) == [("started", "A")]
    assert told(differ, event(status="Started")) == []
    assert told(differ) == [("gone", "A")]
    assert told(differ) == []


def test_an_event_may_be_heard_of_first_when_it_has_started() -> None:
    assert told(Differ(), event(status="Started")) == [("started", "A")]


def test_what_is_gone_is_told_before_what_is_new() -> None:
    differ = Differ()
    told(differ, event("A"), event("B"))
    assert told(differ, event("C"), event("B", "Started")) == [
        ("gone", "A"),
        ("scheduled", "C"),
        ("started", "B"),
    ]


def test_neither_order_nor_case_nor_incarnation_is_a_change() -> None:
    differ = Differ()
    told(differ, event("A", Resources=["a", "b"]), event("B"), incarnation=7)
    again = (event("b"), event("a", Resources=["B", "A"]))
    assert told(differ, *again, incarnation=1) == []


def test_only_this_machine_s_events_are_told() -> None:
    differ = Differ(["scaleset_3"])
    others = (event("A", Resources=["scaleset_30"]), event("B", Resources=["scaleset"]))
    assert told(differ, *others) == []
    mine = event("C", Resources=["scaleset_2", "ScaleSet_3"])
    assert told(differ, *others, mine) == [("scheduled", "C")]
    assert told(differ, event("C", Resources=["scaleset_2"])) == [("gone", "C")]


def test_a_machine_is_meant_by_its_name_and_by_its_number_in_a_scale_set() -> None:
    def names(**compute: str) -> frozenset[str]:
        return own_names(Compute.parse(compute))

    prefix = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/"
    assert names(name="VM-7", resourceId=f"{prefix}virtualMachines/VM-7") == {"vm-7"}
    member = f"{prefix}virtualMachineScaleSets/Pool/virtualMachines/3"
    assert names(name="pool_3", resourceId=member) == {"pool_3"}
    assert names(resourceId=member) == {"pool_3"}
    assert names(name="flex_1a2b", resourceId=f"{prefix}virtualMachines/flex_1a2b") == {"flex_1a2b"}
    assert names() == frozenset()


def test_who_else_is_hit_is_known() -> None:
    (shared, own, nobodys) = events_from(
        document(event("A", Resources=["a", "VM-7"]), event("B"), event("C", Resources=[]))
    ).events
    assert shared.concerns("vm-7")
    assert not shared.concerns_only("vm-7")
    assert own.concerns_only("vm-7")
    assert not nobodys.concerns("vm-7")
    assert not nobodys.concerns_only("vm-7")


def test_it_goes_on_after_a_restart_where_it_was() -> None:
    differ = Differ()
    told(differ, event("A"), event("B"))
    restarted = Differ(seen=events_from(document(event("A"), event("B"))).events)
    assert told(restarted, event("B", "Started"), event("C")) == [
        ("gone", "A"),
        ("started", "B"),
        ("scheduled", "C"),
    ]


@pytest.mark.parametrize(
    "said",
    [
        None,
        [],
        {},
        "",
        {"error": "x"},
        {"Events": {}},
        {"Events": ["x"]},
        {"Events": [{}]},
        {"Events": [{"EventId": "A", "Resources": {}}]},
    ],
)
def test_what_is_no_document_is_never_one_without_events(said: Any) -> None:
    with pytest.raises(Malformed):
        events_from(said)


def test_a_day_of_two_hundred_events_is_told_once_and_in_order() -> None:
    dice = random.Random(7)
    differ, heard, due = Differ(), list[tuple[str, str]](), list[tuple[str, str]]()
    told_of: tuple[ScheduledEvent, ...] = ()
    alive: dict[str, dict[str, Any]] = {}
    born = 0
    while born < 200 or alive:
        turn = dice.random()
        if turn < 0.4 and born < 200:
            born += 1
            alive[str(born)] = event(str(born))
            due.append(("scheduled", str(born)))
        elif alive:
            name = dice.choice(list(alive))
            if alive[name]["EventStatus"] == "Scheduled" and turn < 0.8:
                alive[name] = event(name, "Started")
                due.append(("started", name))
            else:
                del alive[name]
                due.append(("gone", name))
        if dice.random() < 0.3:  # the watcher is started anew
            differ = Differ(seen=told_of)
        for _ in range(dice.choice([1, 1, 2])):  # the same document may come again
            heard += told(differ, *alive.values(), incarnation=dice.randrange(9))
        told_of = events_from(document(*alive.values())).events
    assert heard == due


EVENTS = st.lists(
    st.builds(
        event,
        st.sampled_from("ABC"),
        st.sampled_from(["Scheduled", "Started"]),
        Description=st.sampled_from(["", "x"]),
    ),
    max_size=3,
    unique_by=lambda each: each["EventId"],
)


@given(st.lists(EVENTS, max_size=8))
def test_replaying_the_changes_gives_the_last_document(documents: list[Any]) -> None:
    differ, known = Differ(), dict[str, ScheduledEvent]()
    for events in documents:
        for kind, changed in differ.changes(events_from(document(*events))):
            name = changed.event_id or ""
            assert (name in known) == (kind in ("changed", "gone")) or kind == "started"
            if kind == "gone":
                del known[name]
            else:
                known[name] = changed
        assert {name: each.raw for name, each in known.items()} == {
            each["EventId"]: each for each in events
        }


def test_approval_names_the_events() -> None:
    assert json.loads(approval(["A"])) == {"StartRequests": [{"EventId": "A"}]}
    assert json.loads(approval("A")) == json.loads(approval(["A"]))
    for wrong in ([], [""], [None]):
        with pytest.raises(ValueError, match="ids of one event or more"):
            approval(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "may"), [(-60, True), (-11, True), (-10, False), (0, False), (60, False)]
)
def test_approval_comes_before_the_start_less_a_margin(seconds: float, may: bool) -> None:
    (read,) = events_from(document(event())).events
    assert read.not_before is not None
    at = read.not_before + dt.timedelta(seconds=seconds)
    objection = why_not_approve(read, at, ApprovalRule(margin=10), ["vm-7"])
    assert objection == (None if may else "less than 10 s are left before it starts")


@pytest.mark.parametrize(
    ("fields", "shared", "objection"),
    [
        ({"status": "Started"}, True, "has started"),
        ({"NotBefore": ""}, True, "does not say when"),
        ({"NotBefore": "soon"}, True, "does not say when"),
        ({"Resources": ["vm-7", "vm-8"]}, False, "hits other machines"),
        ({"Resources": ["vm-8"]}, False, "hits other machines"),
        ({"Resources": []}, False, "hits other machines"),
        ({"Resources": ["vm-7", "vm-8"]}, True, None),
        ({"Resources": ["VM-7"]}, False, None),
    ],
)
def test_what_is_not_approved_is_told_why(
    fields: dict[str, Any], shared: bool, objection: str | None
) -> None:
    at = dt.datetime(2016, 9, 19, tzinfo=dt.timezone.utc)
    (read,) = events_from(document(event(**fields))).events
    said = why_not_approve(read, at, ApprovalRule(shared=shared), ["vm-7"])
    assert said is None if objection is None else objection in (said or "")
    assert why_not_approve(None, at, ApprovalRule(), ["vm-7"]) == "it is gone"


def test_a_change_names_its_event() -> None:
    (change,) = Differ().changes(events_from(document(event())))
    assert isinstance(change, Change)
    assert change.event.event_type == "Reboot"
