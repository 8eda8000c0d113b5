"""Stand-ins that tests of every level share."""

from __future__ import annotations

import json
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, TypeVar

from imds_identity._wire.exchange import Response

if TYPE_CHECKING:
    from collections.abc import Callable

EPOCH = 1_750_000_000.0


class FakeClock:
    """Time that passes when a test says so, or when somebody sleeps."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.skew = 0.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.seconds

    def tick(self) -> float:
        return self.seconds

    def wall(self) -> float:
        return EPOCH + self.seconds + self.skew

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds

    def service(self) -> float:
        """The service's own, correct clock."""
        return EPOCH + self.seconds


def middle() -> float:
    """A random number that changes no pause."""
    return 0.5


class Answers:
    """Makes answers of a token endpoint, as its clock has it."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock

    def raw(self, status: int, body: bytes | str = b"", **headers: str) -> Response:
        return Response(
            status=status,
            headers={name.replace("_", "-"): value for name, value in headers.items()},
            body=body.encode() if isinstance(body, str) else body,
            sent_at=self.clock.now(),
            received_at=self.clock.now(),
            received_wall=self.clock.wall(),
        )

    def json(self, status: int, payload: Any, **headers: str) -> Response:
        headers.setdefault("content_type", "application/json; charset=utf-8")
        return self.raw(status, json.dumps(payload), **headers)

    def token(self, value: str = "a-token", *, lifetime: Any = 86400, **more: Any) -> Response:
        payload = {
            "access_token": value,
            "expires_on": str(int(self.clock.service() + lifetime)),
            "expires_in": str(int(lifetime)),
            "token_type": "Bearer",
            **more,
        }
        kept = {name: v for name, v in payload.items() if v is not None}
        return self.json(200, kept, date=formatdate(self.clock.service(), usegmt=True))

    def error(self, status: int, **headers: str) -> Response:
        said = {"error": "an_error", "error_description": "what the service says"}
        return self.json(status, said, **headers)


class Background:
    """Work that nobody blocks for waits until the test runs it; other work is done at once."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], object]] = []

    def __call__(self, run: Callable[[], object], *, blocks: bool) -> None:
        if blocks:
            run()
        else:
            self.waiting.append(run)

    def run(self) -> None:
        while self.waiting:
            self.waiting.pop(0)()


T = TypeVar("T")


class Stepped:
    """Steps an exchange by hand: each expected step and what to answer it with."""

    def __init__(self, steps: Any) -> None:
        self.steps = steps
        self.step: Any = next(steps)

    def answer(self, outcome: Any) -> Any:
        """Give the outcome of the present step; the next step."""
        self.step = (
            self.steps.throw(outcome)
            if isinstance(outcome, BaseException)
            else self.steps.send(outcome)
        )
        return self.step

    def finish(self, outcome: Any) -> Any:
        """Give the outcome of the last step; the exchange's result."""
        try:
            step = self.answer(outcome)
        except StopIteration as done:
            return done.value
        raise AssertionError(f"the exchange goes on with {step!r}")
