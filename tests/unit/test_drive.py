from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from imds_identity._core.failure import Refused, SecretUnreadable
from imds_identity._wire.drive import drive
from imds_identity._wire.exchange import Dropped, Request, Response, Steps, pause, read_secret, send

if TYPE_CHECKING:
    from pathlib import Path

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
    assert drive(steps(), lambda _: answer, clock, str(tmp_path)) == (answer, "s3cret")
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

    assert drive(steps(), fail, clock, "") == 3


def test_a_secret_that_cannot_be_read_ends_the_exchange(clock: FakeClock, tmp_path: Path) -> None:
    with pytest.raises(SecretUnreadable, match="does not exist"):
        drive(read_secret(f"{tmp_path}/a.key"), never, clock, str(tmp_path))


def test_a_failure_says_how_often_and_how_long_it_was_tried(
    clock: FakeClock, answers: Answers
) -> None:
    def steps() -> Steps[None]:
        for _ in range(3):
            yield from send(REQUEST)
            yield from pause(2)
        raise Refused("no", "Do this.")

    with pytest.raises(Refused) as caught:
        drive(steps(), lambda _: answers.error(500), clock, "")
    assert str(caught.value) == "no. Tried 3 times in 6.0 s. Do this."
