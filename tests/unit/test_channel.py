from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from imds_identity._core.failure import Refused, SecretUnreadable
from imds_identity._wire.channel import MARGIN, Channel
from imds_identity._wire.exchange import Dropped, Request, Response, Steps, pause, read_secret, send

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from imds_identity._wire.channel import Expect
    from support import Answers, FakeClock

REQUEST = Request("http://service/", {})


def never(request: Request) -> Response:
    raise AssertionError("nothing is to be sent")


def test_every_step_is_done(clock: FakeClock, answers: Answers, tmp_path: Path) -> None:
    (tmp_path / "a.key").write_text("s3cret")

    def steps() -> Steps[tuple[Response, str]]:
        yield from pause(7)
        answer = yield from send(REQUEST)
        return answer, (yield from read_secret(f"{tmp_path}/a.key")).reveal()

    answer = answers.token()
    assert Channel(lambda _: answer, clock).run(steps(), str(tmp_path)) == (answer, "s3cret")
    assert clock.slept == [7]


def test_transport_errors_are_thrown_in_with_how_long_it_took(clock: FakeClock) -> None:
    def fail(request: Request) -> Response:
        clock.seconds += 3
        raise Dropped("reset")

    def steps() -> Steps[float]:
        try:
            yield from send(REQUEST)
        except Dropped as error:
            return error.seconds
        raise AssertionError("no error came")

    assert Channel(fail, clock).run(steps()) == 3


def test_a_secret_that_cannot_be_read_ends_the_exchange(clock: FakeClock, tmp_path: Path) -> None:
    with pytest.raises(SecretUnreadable, match="does not exist"):
        Channel(never, clock).run(read_secret(f"{tmp_path}/a.key"), str(tmp_path))


def test_a_failure_says_how_often_and_how_long_it_was_tried(
    clock: FakeClock, answers: Answers
) -> None:
    def steps() -> Steps[None]:
        for _ in range(3):
            yield from send(REQUEST)
            yield from pause(2)
        raise Refused("no", "Do this.")

    with pytest.raises(Refused) as caught:
        Channel(lambda _: answers.error(500), clock).run(steps())
    assert str(caught.value) == "no. Tried 3 times in 6.0 s. Do this."


class SlowGate:
    """Lets everybody wait for a while, or nobody in."""

    def __init__(self, clock: FakeClock, seconds: float, refusal: Refused | None = None) -> None:
        self.clock = clock
        self.seconds = seconds
        self.refusal = refusal
        self.heeded: list[int] = []

    @contextmanager
    def admitted(self, seconds: float, expect: Expect) -> Iterator[None]:
        if self.refusal:
            raise self.refusal
        expect(self.seconds)
        self.clock.sleep(self.seconds)
        yield

    def heed(self, response: Response) -> None:
        self.heeded.append(response.status)


def test_waiting_in_the_gate_is_no_time_in_which_nothing_answered(clock: FakeClock) -> None:
    def fail(request: Request) -> Response:
        clock.seconds += 3
        raise Dropped("reset")

    with pytest.raises(Dropped) as caught:
        Channel(fail, clock, gate=SlowGate(clock, 50.0)).run(send(REQUEST))
    assert caught.value.seconds == 3


def test_every_answer_is_heeded(clock: FakeClock, answers: Answers) -> None:
    gate = SlowGate(clock, 0)
    Channel(lambda _: answers.error(429), clock, gate=gate).run(send(REQUEST))
    assert gate.heeded == [429]


def test_what_the_gate_lets_nobody_send_was_not_tried(clock: FakeClock) -> None:
    gate = SlowGate(clock, 0, Refused("the service asked this machine to rest"))
    with pytest.raises(Refused) as caught:
        Channel(never, clock, gate=gate).run(send(REQUEST))
    assert str(caught.value) == "the service asked this machine to rest."


def test_every_silent_stretch_is_told_before_it_begins(clock: FakeClock, answers: Answers) -> None:
    told: list[tuple[float, float]] = []

    def slow(request: Request) -> Response:
        clock.seconds += 12
        return answers.error(500)

    def steps() -> Steps[None]:
        yield from send(REQUEST)
        yield from pause(30)

    def expect(seconds: float) -> None:
        told.append((clock.now() - 1000, seconds))

    Channel(slow, clock, SlowGate(clock, 20.0), expect).run(steps())
    assert told == [(0, 20), (20, 12 + MARGIN), (32, 30 + MARGIN)]
