"""Runs exchanges: the only place that sends requests and sleeps."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from .._core.failure import Failure, Reason, Refused, Unavailable
from .._core.secret import Secret
from .._core.source import url_secrets
from .exchange import Send, TransportError
from .messages import Request, Response
from .retry_options import DEFAULT_RETRY, RetryOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Protocol, TypeAlias, TypeVar

    from .._platform.clock import Clock
    from .exchange import Pause, Random, Step, Steps

    T = TypeVar("T")

    class RateLimiter(Protocol):
        """Keeps a machine's processes within the limits of a service."""

        def acquire(self, seconds: float, heartbeat: Heartbeat) -> AbstractContextManager[object]:
            """Wait until a request that takes up to ``seconds`` may be sent."""
            ...

        def observe(self, response: Response) -> None:
            """Delay later requests if ``response`` requires that."""
            ...


Sender: TypeAlias = Callable[[Request], Response]
"""Sends a request and returns the response, or raises a `TransportError`."""
Heartbeat: TypeAlias = Callable[[float], object]
"""Receives the number of seconds until the next heartbeat at the latest."""

MARGIN = 3.0
"""Seconds that a busy machine may need between two steps."""
_MIN_REQUEST_SECONDS = 0.05
_MAX_STEP_SECONDS = 75.0
"""A minute in the rate limiter, and a request."""


class ExchangeRunner:
    """Runs exchanges with one endpoint.

    Args:
        rate_limiter: delays requests, if there is one.
        heartbeat: is called before each step that takes time, if another process waits.
        seconds: the timeout of an exchange; a step that would exceed it does not start.
        retry_options: the caller's timeouts and retry policy.
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
        self.heartbeat: Heartbeat = heartbeat or _no_heartbeat
        self.random = random
        self.seconds: float = (
            seconds if retry_options.seconds is None else min(seconds, retry_options.seconds)
        )
        self.retry_options = retry_options

    def run(self, steps: Steps[T]) -> T:
        """Execute the steps of an exchange and return its result.

        Raises:
            Failure: the exchange's, without the secrets that were sent, and with the number and
                duration of attempts.
        """
        step_runner = _StepRunner(self)
        started = self.clock.now()
        try:
            step = next(steps)
            while True:
                try:
                    outcome = step_runner.run(step)
                except (TransportError, Failure) as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(outcome)
        except StopIteration as done:
            result: T = done.value
            return result
        except Failure as failure:
            # A service may echo what it received.
            for secret in [*step_runner.secrets, *url_secrets(step_runner.url)]:
                failure.redact(secret)
            failure.attempts, failure.seconds = step_runner.attempts, self.clock.now() - started
            raise


class _StepRunner:
    """Executes the steps of one exchange."""

    def __init__(self, runner: ExchangeRunner) -> None:
        self.attempts = 0
        self.secrets: list[Secret] = []
        self.url = ""
        self._runner = runner
        self._remaining = runner.seconds
        self._step_started = 0.0
        self._last_status: int | None = None

    def run(self, step: Step) -> Response | None:
        started = self._step_started = self._runner.clock.now()
        try:
            if isinstance(step, Send):
                return self._send(step.request)
            self._pause(step)
            return None
        finally:
            # A longer step means that this process was stopped, which is not the service's fault.
            elapsed = self._runner.clock.now() - started
            self._remaining -= min(elapsed, _MAX_STEP_SECONDS)

    def _send(self, request: Request) -> Response:
        self._check_remaining(0.0)
        rate_limiter = self._runner.rate_limiter
        self._last_status = None
        if rate_limiter is None:
            response = self._send_now(request)
        else:
            with rate_limiter.acquire(request.seconds + MARGIN, self._heartbeat):
                response = self._send_now(request)
            rate_limiter.observe(response)
        self._last_status = response.status
        return response

    def _pause(self, step: Pause) -> None:
        self._check_remaining(step.seconds)
        self._runner.heartbeat(step.seconds + MARGIN)
        self._runner.clock.sleep(step.seconds)

    def _with_timeout(self, request: Request) -> Request:
        """Return ``request`` with a timeout that ends no later than that of the whole exchange."""
        if self._runner.retry_options.seconds is None:
            return request
        remaining = max(self._remaining_in_step(), _MIN_REQUEST_SECONDS)
        return request.with_timeouts(None, min(request.seconds, remaining))

    def _remaining_in_step(self) -> float:
        return self._remaining - (self._runner.clock.now() - self._step_started)

    def _heartbeat(self, seconds: float) -> None:
        """Forward the heartbeat of the rate limiter; stop its wait at the caller's timeout."""
        wait = max(seconds - MARGIN, 0.0)
        if self._runner.retry_options.seconds is not None and wait > self._remaining_in_step():
            raise Refused(
                f"no request could be sent within {self._runner.seconds:.0f} s without exceeding "
                "the service's limits",
                "Other processes of this user send too many requests, or the service throttles "
                "this machine. Increase timeout.",
                reason=Reason.THROTTLED,
            )
        self._runner.heartbeat(seconds)

    def _check_remaining(self, seconds: float) -> None:
        """Raise a Failure if fewer than ``seconds`` remain."""
        if self._remaining >= seconds:
            return
        status = self._last_status
        kind = Refused if status else Unavailable
        reason = Reason.SERVICE_FAILING if status else Reason.NO_RESPONSE
        last = f"the last response was HTTP {status}" if status else "no response was complete"
        raise kind(
            f"the service returned no final response within {self._runner.seconds:.0f} s: {last}",
            "It is being updated or is overloaded. Try again in a few minutes.",
            reason=Reason.THROTTLED if status == 429 else reason,
            status=status,
            retry_after=seconds or None,
        )

    def _send_now(self, request: Request) -> Response:
        request = self._with_timeout(request)
        self._runner.heartbeat(request.seconds + MARGIN)
        if request.auth is not None:  # not earlier: the rate limiter may have waited for long
            request = request.auth(request)
        self.secrets += [value for value in request.headers.values() if isinstance(value, Secret)]
        self.url = request.url
        self.attempts += 1
        clock = self._runner.clock
        started = clock.now()
        try:
            return self._runner.send(request)
        except TransportError as error:
            error.seconds = clock.now() - started
            raise


def _no_heartbeat(_seconds: float) -> None:
    """Do nothing: no other process waits."""
