"""The events command with the responses of Microsoft's scheduled-events-mock-server.

It is a program for tests of drain daemons. It has no instance document, no versions and no checks
of requests; an approved event continues with another ID; and dates are in ISO 8601.
https://github.com/Azure-Samples/scheduled-events-mock-server
"""

from __future__ import annotations

import json
import threading
import uuid
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from imds_identity.metadata import MetadataClient, why_not_approve
from imds_identity.metadata._requests.connection import MetadataConnection
from support import QuietHandler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imds_identity.metadata import Watcher

STATES = ("Scheduled", "Started", "Completed")
NOT_FOUND = b"<!doctype html>\n<html lang=en>\n<title>404 Not Found</title>\n"


class MockServer(HTTPServer):
    """Returns at most one event, which `proceed` and approvals advance."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.endpoint = f"http://127.0.0.1:{self.server_port}"
        self.incarnation = 1
        self.state = "Completed"
        self.event_id = ""

    def proceed(self, state: str) -> str:
        self.state, self.event_id = state, str(uuid.uuid4())
        self.incarnation += 1
        return self.event_id

    def document(self) -> dict[str, Any]:
        event = {
            "Description": "Host server is undergoing maintenance.",
            "DurationInSeconds": 9,
            "EventId": self.event_id,
            "EventSource": "Platform",
            "EventStatus": self.state,
            "EventType": "Freeze",
            "NotBefore": "2099-11-29T02:26:14Z" if self.state == "Scheduled" else "",
            "ResourceType": "VirtualMachine",
            "Resources": ["vmss_vm1"],
        }
        over = self.state in ("Completed", "Canceled")
        return {"DocumentIncarnation": self.incarnation, "Events": [] if over else [event]}


class _Handler(QuietHandler, BaseHTTPRequestHandler):
    server: MockServer

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != "/metadata/scheduledevents":
            self.respond(404, NOT_FOUND, "text/html; charset=utf-8")
            return
        self.respond(200, json.dumps(self.server.document()).encode(), "application/json")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        approved = body["StartRequests"][0]["EventId"]
        if (approved, self.server.state) == (self.server.event_id, "Scheduled"):
            self.server.proceed("Started")
        self.do_GET()


@pytest.fixture(autouse=True)
def _without_rate_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MetadataConnection, "_rate_limiter", lambda _: None)


@pytest.fixture
def server() -> Iterator[MockServer]:
    with MockServer() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def poll(watcher: Watcher) -> list[tuple[str, str | None]]:
    watcher.ask()
    return [(each.kind, each.event.event_id) for each in iter(watcher.next_ready, None)]


@pytest.mark.parametrize("flags", [("--all",), ("--name", "VMSS_vm1")])
def test_events_are_listed_and_approved(server: MockServer, run_cli: Any, flags: Any) -> None:
    command = ("events", "--endpoint", server.endpoint)
    assert run_cli(*command, *flags) == (0, "", "imds-identity: no scheduled events\n")
    event = server.proceed("Scheduled")
    status, out, _ = run_cli(*command, *flags)
    assert status == 0
    assert out.split("\t")[:4] == [event, "Freeze", "Scheduled", "2099-11-29T02:26:14+00:00"]
    document = json.loads(run_cli(*command, *flags, "-o", "json")[1])
    assert document == server.document()
    assert run_cli(*command, "--name", "other")[:2] == (0, "")
    assert run_cli(*command, "--start", event) == (0, "", "")
    assert server.state == "Started"
    assert run_cli(*command, *flags)[1].split("\t")[1:4] == ["Freeze", "Started", ""]


def test_events_of_an_unknown_machine_are_not_listed(server: MockServer, run_cli: Any) -> None:
    server.proceed("Scheduled")
    status, out, err = run_cli("events", "--endpoint", server.endpoint)
    assert (status, out) == (4, "")
    assert "HTTP 404 for instance" in err


@pytest.mark.parametrize("options", [{"names": ["vmss_vm1"]}, {"every_machine": True}])
def test_all_states_of_a_scenario_are_returned(server: MockServer, options: Any) -> None:
    client = MetadataClient(endpoint=server.endpoint)
    watcher = client.watch(**options)
    assert poll(watcher) == []
    scheduled = server.proceed("Scheduled")
    assert poll(watcher) == [("scheduled", scheduled)]
    assert poll(watcher) == []
    event = watcher.known(scheduled)
    assert why_not_approve(event, names=["vmss_vm1"]) is None
    assert (watcher.failure is None) == ("names" in options)
    client.start(scheduled)
    assert poll(watcher) == [("gone", scheduled), ("started", server.event_id)]
    started = server.event_id
    server.proceed("Completed")
    assert poll(watcher) == [("gone", started)]
    canceled = server.proceed("Scheduled")
    poll(watcher)
    server.proceed("Canceled")
    assert poll(watcher) == [("gone", canceled)]
