"""Runs an exchange: the only place that sends, sleeps and reads the secret file."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from .._core.failure import Failure, SecretUnreadable
from .exchange import ConfirmListener, ReadSecret, Request, Response, Send, TransportError

if TYPE_CHECKING:
    from .._core.clock import Clock
    from .._core.secret import Secret
    from .exchange import Step, Steps

T = TypeVar("T")
Sender: TypeAlias = Callable[[Request], Response]
"""Sends a request and gives its answer, or raises a TransportError."""


def drive(steps: Steps[T], send: Sender, clock: Clock, tokens_directory: str) -> T:
    """Do what ``steps`` ask for until they give their result.

    Args:
        steps: an exchange.
        send: sends one request.
        clock: times the attempts and sleeps.
        tokens_directory: the only directory a secret is read from.

    Raises:
        Failure: as the exchange raises it, with how often and how long it was tried.
    """
    hands = _Hands(send, clock, tokens_directory)
    started = clock.now()
    try:
        step = next(steps)
        while True:
            try:
                outcome = hands.do(step)
            except (TransportError, SecretUnreadable) as error:
                step = steps.throw(error)
            else:
                step = steps.send(outcome)
    except StopIteration as done:
        result: T = done.value
        return result
    except Failure as failure:
        failure.attempts, failure.seconds = hands.attempts, clock.now() - started
        raise


class _Hands:
    """Does single steps."""

    def __init__(self, send: Sender, clock: Clock, tokens_directory: str) -> None:
        self.attempts = 0
        self._send = send
        self._clock = clock
        self._tokens_directory = tokens_directory

    def do(self, step: Step) -> Response | Secret | None:
        """What ``step`` asks for."""
        if isinstance(step, Send):
            self.attempts += 1
            return self._timed(step.request)
        if isinstance(step, ConfirmListener):
            from .listener import confirm

            confirm(step.port)
            return None
        if isinstance(step, ReadSecret):
            from .secret_file import read_secret

            return read_secret(step.path, self._tokens_directory)
        self._clock.sleep(step.seconds)
        return None

    def _timed(self, request: Request) -> Response:
        started = self._clock.now()
        try:
            return self._send(request)
        except TransportError as error:
            error.seconds = self._clock.now() - started
            raise
