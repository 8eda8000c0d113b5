"""A metadata service in memory, whose answers and time a test decides."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests

from imds_identity._http.messages import Response
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
    """An event, as the service writes it."""
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
    """A document of events."""
    return {"DocumentIncarnation": incarnation, "Events": list(events)}


class Service:
    """Answers a client.

    Attributes:
        events: what is scheduled.
        bad: what comes in place of the next answers for scheduled events.
        instance_bad: the same for the instance document.
        asked: method and path of every request.
        bodies: what was posted.
    """

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.events: list[dict[str, Any]] = []
        self.bad: list[Response | TransportError] = []
        self.instance_bad: list[Response | TransportError] = []
        self.asked: list[str] = []
        self.seconds: list[float] = []
        self.bodies: list[Any] = []
        self.compute: dict[str, Any] = {"name": MACHINE}
        self._answers = ResponseFactory(clock)

    def client(self) -> MetadataClient:
        """A client of this service."""
        client = MetadataClient(endpoint="http://service")
        connection = client._connection
        connection.clock = self.clock
        connection.run = lambda steps, seconds=100.0: connection.read(  # type: ignore[method-assign]
            ExchangeRunner(self.send, self.clock, seconds=seconds).run, steps
        )
        return client

    def send(self, request: Request) -> Response:
        """The answer to one request."""
        path = urlsplit(request.url).path.removeprefix("/metadata/")
        self.asked.append(f"{request.method} {path}")
        self.seconds.append(self.clock.now())
        bad = self.instance_bad if path == "instance" else self.bad
        if bad:
            return _outcome(bad.pop(0))
        if path == "instance":
            return self._answers.json(200, {"compute": self.compute})
        if request.method == "POST":
            self.bodies.append(json.loads(request.body or b""))
            return self._answers.raw(200)
        return self._answers.json(200, document(*self.events))


def _outcome(planned: Response | TransportError) -> Response:
    if isinstance(planned, Response):
        return planned
    raise planned


class Day:
    """Many events, one change after another.

    Attributes:
        dice: throws what happens.
        due: what is to be told until now, kind and event.

    Args:
        dice: throws what happens.
        number: of events.
    """

    def __init__(self, dice: random.Random, number: int) -> None:
        self.dice = dice
        self.due: list[tuple[str, str]] = []
        self._number = number
        self._born = 0
        self._alive: dict[str, dict[str, Any]] = {}

    @property
    def is_over(self) -> bool:
        """Whether all events have come and gone."""
        return self._born == self._number and not self._alive

    def next_document(self) -> list[dict[str, Any]]:
        """The events after one more change, or none."""
        name = self.dice.choice(list(self._alive) or [""])
        if self._born < self._number and (not name or self.dice.random() < 0.4):
            self._announce()
        elif self._alive[name]["EventStatus"] == "Started" or self.dice.random() < 0.3:
            self._tell("gone", self._alive.pop(name))
        else:
            self._go_on(self._alive[name])
        return [dict(each) for each in self._alive.values()]

    def _announce(self) -> None:
        name = f"event-{self._born}"
        self._born += 1
        status = self.dice.choice(["Scheduled", "Scheduled", "Started"])
        self._alive[name] = event(name, status, Resources=[self.dice.choice([MACHINE, "vm-8"])])
        self._tell(status.lower(), self._alive[name])

    def _go_on(self, one: dict[str, Any]) -> None:
        if self.dice.random() < 0.5:
            one |= {"EventStatus": "Started", "NotBefore": ""}
            self._tell("started", one)
        else:
            one["Description"] += "again "
            self._tell("changed", one)

    def _tell(self, kind: str, one: dict[str, Any]) -> None:
        if one["Resources"] == [MACHINE]:
            self.due.append((kind, one["EventId"]))


def client_of(emulator: Emulator, **arguments: Any) -> MetadataClient:
    """A client of an emulator."""
    return MetadataClient(endpoint=emulator.endpoint, **arguments)


def trust_in(emulator: Emulator) -> dict[str, Any]:
    """What it takes to verify the emulator's documents, whose issuer is at no public address."""
    url = f"{emulator.endpoint}/emulator/attested/intermediate.cer"
    issuer = requests.get(url, headers={"Metadata": "true"}, timeout=10).content
    return {
        "ca_file": emulator.attested_root_file,
        "intermediates": [issuer],
        "offline": True,
    }
