"""Runs exchanges: the only place that sends, sleeps and reads the secret file."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from .._core.failure import Failure, Reason, Refused, Unavailable
from .._platform.fork import fork_safe
from .exchange import ConfirmListener, Pause, ReadSecret, Request, Response, Send, TransportError
from .retry_options import DEFAULT_RETRY, RetryOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Any, Protocol, TypeAlias, TypeVar

    from .._core.secret import Secret
    from .._platform.clock import Clock
    from .exchange import Random, Step, Steps

    T = TypeVar("T")

    class RateLimiter(Protocol):
        """What keeps the limits that a service sets to all who ask it from this machine."""

        def acquire(self, seconds: float, heartbeat: Heartbeat) -> AbstractContextManager[object]:
            """Wait until a request that takes up to ``seconds`` may be under way."""
            ...

        def observe(self, response: Response) -> None:
            """Keep to what ``response`` says of when to come again."""
            ...


Sender: TypeAlias = Callable[[Request], Response]
"""Sends a request and gives its answer, or raises a TransportError."""
Heartbeat: TypeAlias = Callable[[float], object]
"""Is told for how many seconds nothing may be heard of an exchange."""

MARGIN = 3.0
"""Seconds in which a busy machine gets from one step to the next."""
_SHORTEST_REQUEST = 0.05
_LONGEST_STEP = 75.0
"""Seconds: a minute before the gate, and a request."""


class ExchangeRunner:
    """All that it takes to speak to one endpoint.

    Args:
        send: sends one request.
        clock: times the attempts and sleeps.
        rate_limiter: what every request waits at, if anything.
        heartbeat: is told of each silent stretch before it begins, if anybody waits.
        random: spreads what would otherwise be done in step.
        seconds: how long an exchange may take; what would begin or be waited for after that is not.
        retry_options: what the caller wants otherwise than the exchanges have it.
    """

    def __init__(
        self,
        send: Sender,
        clock: Clock,
        rate_limiter: RateLimiter | None = None,
        heartbeat: Heartbeat | None = None,
        random: Random = random.random,
        seconds: float = math.inf,
        retry_options: RetryOptions = DEFAULT_RETRY,
    ) -> None:
        self.send = send
        self.clock = clock
        self.rate_limiter = rate_limiter
        self.heartbeat = heartbeat or _no_heartbeat
        self.random = random
        self.seconds = (
            seconds if retry_options.seconds is None else min(seconds, retry_options.seconds)
        )
        self.retry_options = retry_options

    def run(self, steps: Steps[T], tokens_directory: str = "") -> T:
        """Do what ``steps`` ask for until they give their result.

        Args:
            steps: an exchange.
            tokens_directory: the only directory that a secret is read from, whatever they ask for.

        Raises:
            Failure: as the exchange raises it, with how often and how long it was tried.
        """
        steps_done = _StepRunner(self, tokens_directory)
        started = self.clock.now()
        try:
            step = next(steps)
            while True:
                try:
                    outcome = steps_done.do(step)
                except (TransportError, Failure) as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(outcome)
        except StopIteration as done:
            result: T = done.value
            return result
        except Failure as failure:
            failure.attempts, failure.seconds = steps_done.attempts, self.clock.now() - started
            raise


class _StepRunner:
    """Does the single steps of one exchange."""

    def __init__(self, runner: ExchangeRunner, tokens_directory: str) -> None:
        self.attempts = 0
        self._channel = runner
        self._tokens_directory = tokens_directory
        self._left = runner.seconds
        self._status: int | None = None

    def do(self, step: Step) -> Any:
        """What ``step`` asks for."""
        started = self._channel.clock.now()
        try:
            return _HANDLERS[type(step)](self, step)
        finally:
            # No step takes longer, unless this process was stopped, which is no fault of its peer.
            self._left -= min(self._channel.clock.now() - started, _LONGEST_STEP)

    def send(self, step: Send) -> Response:
        self._check_time(0.0)
        request, rate_limiter = self._in_time(step.request), self._channel.rate_limiter
        seconds = request.seconds + MARGIN
        self._status = None
        if rate_limiter is None:
            response = self._timed(request, seconds)
        else:
            with rate_limiter.acquire(seconds, self._channel.heartbeat):
                response = self._timed(request, seconds)
            rate_limiter.observe(response)
        self._status = response.status
        return response

    def pause(self, step: Pause) -> None:
        self._check_time(step.seconds)
        self._channel.heartbeat(step.seconds + MARGIN)
        self._channel.clock.sleep(step.seconds)

    def confirm_listener(self, step: ConfirmListener) -> None:
        _confirm(step.port)

    def read_secret(self, step: ReadSecret) -> Secret:
        with fork_safe():
            from .key_file import read_secret

        return read_secret(step.path, self._tokens_directory)

    def _in_time(self, request: Request) -> Request:
        """``request``, to end when the caller wants the whole exchange to."""
        if self._channel.retry_options.seconds is None:
            return request
        return request.with_timeouts(None, min(request.seconds, max(self._left, _SHORTEST_REQUEST)))

    def _check_time(self, seconds: float) -> None:
        """Give up where there is not so much time left."""
        if self._left < seconds:
            last = f"its last answer was {self._status}" if self._status else "none was complete"
            kind = Refused if self._status else Unavailable
            reason = Reason.SERVICE_FAILING if self._status else Reason.NO_RESPONSE
            raise kind(
                f"the service gave no final answer within {self._channel.seconds:.0f} s: {last}",
                "It is being updated or is overloaded; that mostly passes within minutes.",
                reason=Reason.THROTTLED if self._status == 429 else reason,
                status=self._status,
                retry_after=seconds or None,
            )

    def _timed(self, request: Request, seconds: float) -> Response:
        self._channel.heartbeat(seconds)
        if request.listener:  # not before: waiting in the gate gives others time to take the port
            _confirm(request.listener)
        self.attempts += 1
        clock = self._channel.clock
        started = clock.now()
        try:
            return self._channel.send(request)
        except TransportError as error:
            error.seconds = clock.now() - started
            raise


_HANDLERS: dict[type, Callable[[_StepRunner, Any], Any]] = {
    Send: _StepRunner.send,
    Pause: _StepRunner.pause,
    ConfirmListener: _StepRunner.confirm_listener,
    ReadSecret: _StepRunner.read_secret,
}


def _confirm(port: int) -> None:
    with fork_safe():
        from .peer import confirm

    confirm(port)


def _no_heartbeat(_seconds: float) -> None:
    """Nobody waits for this exchange."""
