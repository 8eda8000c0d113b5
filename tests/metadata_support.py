"""Helpers for tests of instance metadata and scheduled events."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from imds_identity._http.messages import Response
from imds_identity._http.retry_options import RetryOptions
from imds_identity._http.runner import ExchangeRunner
from imds_identity.metadata import MetadataClient
from support import FakeClock, ResponseFactory

if TYPE_CHECKING:
    import random

    from imds_identity._http.exchange import TransportError
    from imds_identity._http.messages import Request
    from imds_identity.emulator import Emulator

NOON = "Mon, 19 Sep 2016 12:00:00 GMT"
MACHINE = "vm-7"


def event(name: str = "A", status: str = "Scheduled", **other: Any) -> dict[str, Any]:
    """Return an event as the service writes it."""
    return {
        "EventId": name,
        "EventStatus": status,
        "EventType": "Reboot",
        "ResourceType": "VirtualMachine",
        "Resources": [MACHINE],
        "NotBefore": "" if status == "Started" else NOON,
        "Description": "",
        "EventSource": "Platform",
        "DurationInSeconds": -1,
        **other,
    }


def document(*events: dict[str, Any], incarnation: Any = 1) -> dict[str, Any]:
    """Return a document of scheduled events."""
    return {"DocumentIncarnation": incarnation, "Events": list(events)}


class FakeService:
    """A metadata service in memory.

    Attributes:
        events: the scheduled events.
        outcomes: replace the next responses for scheduled events.
        instance_outcomes: replace the next responses for the instance document.
        requested: method and path of every request.
        bodies: the bodies of POST requests.
        compute: the compute document.
        network: the network document.
    """

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.events: list[dict[str, Any]] = []
        self.outcomes: list[Response | TransportError] = []
        self.instance_outcomes: list[Response | TransportError] = []
        self.requested: list[str] = []
        self.bodies: list[Any] = []
        self.compute: dict[str, Any] = {"name": MACHINE}
        self.network: dict[str, Any] = {"interface": [{"macAddress": "000D3A000004"}]}
        self._responses = ResponseFactory(clock)

    def client(self) -> MetadataClient:
        """Return a client of this service."""
        client = MetadataClient(endpoint="http://service")
        connection = client._connection
        connection.clock = self.clock

        def run(steps: Any, seconds: float = 100.0, timeout: float | None = None) -> Any:
            options = RetryOptions(seconds=timeout)
            runner = ExchangeRunner(
                self.send, self.clock, seconds=timeout or seconds, retry_options=options
            )
            return connection.convert(runner.run, steps)

        connection.run = run  # type: ignore[method-assign]
        return client

    def send(self, request: Request) -> Response:
        """Respond to one request."""
        path = urlsplit(request.url).path.removeprefix("/metadata/")
        self.requested.append(f"{request.method} {path}")
        outcomes = self.instance_outcomes if path == "instance" else self.outcomes
        if outcomes:
            return _response_or_raise(outcomes.pop(0))
        if path == "instance":
            whole = {"compute": self.compute, "network": self.network}
            return self._responses.json(200, whole)
        if request.method == "POST":
            self.bodies.append(json.loads(request.body or b""))
            return self._responses.raw(200)
        return self._responses.json(200, document(*self.events))


def _response_or_raise(planned: Response | TransportError) -> Response:
    if isinstance(planned, Response):
        return planned
    raise planned


class RandomEvents:
    """Random events that change one at a time.

    Attributes:
        random: decides what happens.
        expected: the changes so far, as kind and event ID.

    Args:
        generator: decides what happens.
        number: the number of events.
    """

    def __init__(self, generator: random.Random, number: int) -> None:
        self.random = generator
        self.expected: list[tuple[str, str]] = []
        self._number = number
        self._created = 0
        self._existing: dict[str, dict[str, Any]] = {}

    @property
    def is_over(self) -> bool:
        """Whether all events are gone."""
        return self._created == self._number and not self._existing

    def next_document(self) -> list[dict[str, Any]]:
        """Return the events after at most one more change."""
        name = self.random.choice(list(self._existing) or [""])
        if self._created < self._number and (not name or self.random.random() < 0.4):
            self._schedule()
        elif self._existing[name]["EventStatus"] == "Started" or self.random.random() < 0.3:
            self._expect("gone", self._existing.pop(name))
        else:
            self._continue(self._existing[name])
        return [dict(each) for each in self._existing.values()]

    def _schedule(self) -> None:
        name = f"event-{self._created}"
        self._created += 1
        status = self.random.choice(["Scheduled", "Scheduled", "Started"])
        self._existing[name] = event(
            name, status, Resources=[self.random.choice([MACHINE, "vm-8"])]
        )
        self._expect(status.lower(), self._existing[name])

    def _continue(self, each: dict[str, Any]) -> None:
        if self.random.random() < 0.5:
            each |= {"EventStatus": "Started", "NotBefore": ""}
            self._expect("started", each)
        else:
            each["Description"] += "again "
            self._expect("changed", each)

    def _expect(self, kind: str, each: dict[str, Any]) -> None:
        if each["Resources"] == [MACHINE]:
            self.expected.append((kind, each["EventId"]))


def client_of(emulator: Emulator, **arguments: Any) -> MetadataClient:
    """Return a client of an emulator."""
    return MetadataClient(endpoint=emulator.endpoint, **arguments)


def trust_arguments(emulator: Emulator) -> dict[str, Any]:
    """Return the arguments that verify the emulator's documents."""
    return {"ca_file": emulator.attested_ca_file, "offline": True}
