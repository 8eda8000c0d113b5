"""Changes between documents of scheduled events."""

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
    ApprovalPolicy,
    Change,
    Differ,
    ScheduledEvent,
    events_from_json,
    own_names,
    start_request,
    why_not_approve,
)
from imds_identity.metadata._models.compute import Compute
from metadata_support import document, event


def changes_of(
    differ: Differ, *events: dict[str, Any], incarnation: Any = 1
) -> list[tuple[str, str]]:
    changes = differ.changes(events_from_json(document(*events, incarnation=incarnation)))
    return [(change.kind, change.event.event_id or "") for change in changes]


def test_the_fields_of_an_event_are_converted() -> None:
    (parsed,) = events_from_json(document(event(DurationInSeconds=9, New="x"))).events
    assert parsed.not_before == dt.datetime(2016, 9, 19, 12, tzinfo=dt.timezone.utc)
    assert parsed.duration == 9
    assert parsed.resources == ("vm-7",)
    assert parsed.extra == {"New": "x"}
    (started,) = events_from_json(document(event(status="Started"))).events
    assert started.not_before is None
    assert started.duration is None
    assert started.has_started


def test_each_change_of_an_event_is_returned_once() -> None:
    differ = Differ()
    assert changes_of(differ) == []
    assert changes_of(differ, event()) == [("scheduled", "A")]
    assert changes_of(differ, event(), incarnation=2) == []
    assert changes_of(differ, event(NotBefore="Mon, 19 Sep 2016 13:00:00 GMT")) == [
        ("changed", "A")
    ]
    assert changes_of(differ, event(status="Started")) == [("started", "A")]
    assert changes_of(differ, event(status="Started")) == []
    assert changes_of(differ) == [("gone", "A")]
    assert changes_of(differ) == []


def test_the_first_change_of_an_event_may_be_started() -> None:
    assert changes_of(Differ(), event(status="Started")) == [("started", "A")]


def test_gone_events_come_before_new_ones() -> None:
    differ = Differ()
    changes_of(differ, event("A"), event("B"))
    assert changes_of(differ, event("C"), event("B", "Started")) == [
        ("gone", "A"),
        ("scheduled", "C"),
        ("started", "B"),
    ]


def test_order_case_and_incarnation_do_not_count_as_changes() -> None:
    differ = Differ()
    changes_of(differ, event("A", Resources=["a", "b"]), event("B"), incarnation=7)
    reordered = (event("b"), event("a", Resources=["B", "A"]))
    assert changes_of(differ, *reordered, incarnation=1) == []


def test_only_events_of_this_machine_are_returned() -> None:
    differ = Differ(["scaleset_3"])
    others = (event("A", Resources=["scaleset_30"]), event("B", Resources=["scaleset"]))
    assert changes_of(differ, *others) == []
    mine = event("C", Resources=["scaleset_2", "ScaleSet_3"])
    assert changes_of(differ, *others, mine) == [("scheduled", "C")]
    assert changes_of(differ, event("C", Resources=["scaleset_2"])) == [("gone", "C")]


def test_a_machine_has_its_name_and_its_instance_name_in_a_scale_set() -> None:
    def names(**compute: str) -> frozenset[str]:
        return own_names(Compute.parse(compute))

    prefix = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/"
    assert names(name="VM-7", resourceId=f"{prefix}virtualMachines/VM-7") == {"vm-7"}
    member = f"{prefix}virtualMachineScaleSets/Pool/virtualMachines/3"
    assert names(name="pool_3", resourceId=member) == {"pool_3"}
    assert names(resourceId=member) == {"pool_3"}
    assert names(name="flex_1a2b", resourceId=f"{prefix}virtualMachines/flex_1a2b") == {"flex_1a2b"}
    assert names() == frozenset()


@pytest.mark.parametrize(
    "text",
    [
        "2016-09-19T12:00:00Z",
        "2016-09-19T12:00:00.1234567Z",
        "2016-09-19T14:00:00+02:00",
        "2016-09-19 12:00:00",
        "Mon, 19 Sep 2016 12:00:00 GMT",
    ],
)
def test_the_start_of_an_event_may_be_an_iso_8601_date(text: str) -> None:
    (found,) = events_from_json(document(event("A", NotBefore=text))).events
    assert found.not_before == dt.datetime(2016, 9, 19, 12, tzinfo=dt.timezone.utc)


@given(st.text(max_size=40) | st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}[Z+:0-9]{0,6}"))
def test_any_other_start_is_unknown_or_a_date_with_a_zone(text: str) -> None:
    (found,) = events_from_json(document(event("A", NotBefore=text))).events
    assert found.not_before is None or found.not_before.tzinfo is not None


def test_an_event_knows_whether_it_affects_other_machines() -> None:
    (shared, own, unassigned) = events_from_json(
        document(event("A", Resources=["a", "VM-7"]), event("B"), event("C", Resources=[]))
    ).events
    assert shared.concerns("vm-7")
    assert not shared.concerns_only("vm-7")
    assert own.concerns_only("vm-7")
    assert not unassigned.concerns("vm-7")
    assert not unassigned.concerns_only("vm-7")


def test_handled_events_are_not_returned_again_after_a_restart() -> None:
    differ = Differ()
    changes_of(differ, event("A"), event("B"))
    restarted = Differ(handled=events_from_json(document(event("A"), event("B"))).events)
    assert changes_of(restarted, event("B", "Started"), event("C")) == [
        ("gone", "A"),
        ("started", "B"),
        ("scheduled", "C"),
    ]


@pytest.mark.parametrize(
    "malformed",
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
def test_a_malformed_document_never_counts_as_one_without_events(malformed: Any) -> None:
    with pytest.raises(Malformed):
        events_from_json(malformed)


def test_changes_of_two_hundred_events_are_returned_once_and_in_order() -> None:
    generator = random.Random(7)
    differ, found, expected = Differ(), list[tuple[str, str]](), list[tuple[str, str]]()
    handled: tuple[ScheduledEvent, ...] = ()
    existing: dict[str, dict[str, Any]] = {}
    created = 0
    while created < 200 or existing:
        chance = generator.random()
        if chance < 0.4 and created < 200:
            created += 1
            existing[str(created)] = event(str(created))
            expected.append(("scheduled", str(created)))
        elif existing:
            name = generator.choice(list(existing))
            if existing[name]["EventStatus"] == "Scheduled" and chance < 0.8:
                existing[name] = event(name, "Started")
                expected.append(("started", name))
            else:
                del existing[name]
                expected.append(("gone", name))
        if generator.random() < 0.3:  # the watcher restarts
            differ = Differ(handled=handled)
        for _ in range(generator.choice([1, 1, 2])):  # the same document may come again
            found += changes_of(differ, *existing.values(), incarnation=generator.randrange(9))
        handled = events_from_json(document(*existing.values())).events
    assert found == expected


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
def test_replaying_the_changes_results_in_the_last_document(documents: list[Any]) -> None:
    differ, known = Differ(), dict[str, ScheduledEvent]()
    for events in documents:
        for kind, changed in differ.changes(events_from_json(document(*events))):
            name = changed.event_id or ""
            assert (name in known) == (kind in ("changed", "gone")) or kind == "started"
            if kind == "gone":
                del known[name]
            else:
                known[name] = changed
        assert {name: each.raw for name, each in known.items()} == {
            each["EventId"]: each for each in events
        }


def test_an_approval_contains_the_event_ids() -> None:
    assert json.loads(start_request(["A"])) == {"StartRequests": [{"EventId": "A"}]}
    assert json.loads(start_request("A")) == json.loads(start_request(["A"]))
    for wrong in ([], [""], [None]):
        with pytest.raises(ValueError, match="ID of at least one event"):
            start_request(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "approved"), [(-60, True), (-11, True), (-10, False), (0, False), (60, False)]
)
def test_approval_requires_a_margin_before_the_start(seconds: float, approved: bool) -> None:
    (parsed,) = events_from_json(document(event())).events
    assert parsed.not_before is not None
    at = parsed.not_before + dt.timedelta(seconds=seconds)
    reason = why_not_approve(parsed, names=["vm-7"], at=at, policy=ApprovalPolicy(margin=10))
    assert reason == (None if approved else "it starts in less than 10 s")


@pytest.mark.parametrize(
    ("fields", "shared", "reason"),
    [
        ({"status": "Started"}, True, "has started"),
        ({"NotBefore": ""}, True, "start time is unknown"),
        ({"NotBefore": "soon"}, True, "start time is unknown"),
        ({"Resources": ["vm-7", "vm-8"]}, False, "affects other machines"),
        ({"Resources": ["vm-8"]}, False, "affects other machines"),
        ({"Resources": []}, False, "affects other machines"),
        ({"Resources": ["vm-7", "vm-8"]}, True, None),
        ({"Resources": ["VM-7"]}, False, None),
    ],
)
def test_the_reason_for_not_approving_is_returned(
    fields: dict[str, Any], shared: bool, reason: str | None
) -> None:
    at = dt.datetime(2016, 9, 19, tzinfo=dt.timezone.utc)
    (parsed,) = events_from_json(document(event(**fields))).events
    actual = why_not_approve(parsed, names=["vm-7"], at=at, policy=ApprovalPolicy(shared=shared))
    assert actual is None if reason is None else reason in (actual or "")
    assert why_not_approve(None, names=["vm-7"], at=at) == "it is gone"
    assert why_not_approve(parsed, names=["vm-7"]) is not None  # the start has passed


def test_a_machine_without_names_approves_nothing_of_its_own() -> None:
    at = dt.datetime(2016, 9, 19, tzinfo=dt.timezone.utc)
    (parsed,) = events_from_json(document(event())).events
    assert why_not_approve(parsed, names=(), at=at) == (
        "the names of this machine are unknown, so it may affect others"
    )


def test_a_change_contains_its_event() -> None:
    (change,) = Differ().changes(events_from_json(document(event())))
    assert isinstance(change, Change)
    assert change.event.event_type == "Reboot"
