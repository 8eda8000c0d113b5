"""The retry policy: which outcomes are retried, and after which pause.

| outcome            | rule                                                                    |
|--------------------|-------------------------------------------------------------------------|
| 404                | the endpoint is being updated: exponential backoff                      |
| 410                | the service is being updated, for up to 70 s: retry for that long       |
| 429                | throttled: exponential backoff, each pause at least ``Retry-After``     |
| 5xx                | transient: exponential backoff, at least 1 s                            |
| read failed        | the endpoint is being updated: exponential backoff                      |
| connect failed     | attempts for 10 s: the service may start later than this program; as    |
|                    | above if it responded before                                            |
| any other response | final                                                                   |

Exponential backoff is Microsoft's: five attempts at about 0, 2, 6, 14, and 30 s. Each pause has a
jitter of half its length in both directions, so that clients do not retry at the same time.
https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token#retry-guidance
"""

from __future__ import annotations

from typing import NamedTuple

from .._core.failure import Reason, Refused, Unavailable, sanitize
from .exchange import ConnectFailed, ReadFailed, pause, send
from .messages import CONNECT_SECONDS, Request, Response
from .retry_options import DEFAULT_RETRY, RetryOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .exchange import Random, Steps

_MAX_ATTEMPTS = 5
_FIRST_PAUSE = 2.0
_MAX_PAUSE = 16.0
_SHORTEST_LAST_PAUSE = 1.0
_MAX_DOUBLINGS = 16
_MAX_RETRY_AFTER = 60.0
_MAX_CONNECT_ATTEMPTS = 10
_FIRST_CONNECT_PAUSE = 0.5
_MAX_CONNECT_PAUSE = 2.0
_MAX_CONNECT_SECONDS = 10.0
_MAX_READ_DELAY = 60.0


class RetryRule(NamedTuple):
    """How an outcome is retried.

    Attributes:
        min_pause: the minimum number of seconds between two attempts.
        budget: seconds of pauses during which attempts continue, regardless of their number.
    """

    min_pause: float = 0.0
    budget: float = 0.0


TOKEN_RULES: Mapping[int, RetryRule] = {
    404: RetryRule(),
    410: RetryRule(budget=70.0),
    429: RetryRule(),
    **{status: RetryRule(min_pause=1.0) for status in range(500, 600)},
}
_AFTER_READ_FAILED = RetryRule()


def with_retries(
    request: Request,
    random: Random,
    unreachable_hint: str,
    rules: Mapping[int, RetryRule] = TOKEN_RULES,
    retry_options: RetryOptions = DEFAULT_RETRY,
    is_authentic: Callable[[Response], bool] | None = None,
    is_final: Callable[[Response], bool] | None = None,
) -> Steps[Response]:
    """Send ``request`` until a response is final.

    ``rules`` depend on the operation. ``is_authentic`` returns whether a response comes from the
    service itself: the ``Retry-After`` of another program at its address is ignored. ``is_final``
    returns whether a response is not retried although its status usually is.

    Raise Unavailable if the service is not reachable, or no response is complete; Refused if that
    happens after a response that was retried, such as 429.
    """
    backoff = Backoff(random, rules, retry_options)
    request = request.with_timeouts(retry_options.connect_seconds, retry_options.request_seconds)
    while True:
        try:
            response = yield from fresh_response(request)
        except ConnectFailed as error:
            seconds = backoff.after_connect_failed(error)
            if seconds is None:
                raise unreachable_failure(error, unreachable_hint, backoff.failure_class) from None
        except ReadFailed as error:
            seconds = backoff.after_read_failed()
            if seconds is None:
                raise backoff.failure_class(
                    f"the service accepts connections but does not respond ({error_text(error)})",
                    "It is being updated or is overloaded. Try again in a few minutes.",
                    reason=Reason.NO_RESPONSE,
                ) from None
        else:
            ignored = is_authentic and response.status in rules and not is_authentic(response)
            seconds = backoff.after_read_failed() if ignored else backoff.after_response(response)
            if seconds is None or (is_final and is_final(response)):
                return response
        yield from pause(seconds)


def unreachable_failure(
    error: ConnectFailed, hint: str, kind: type[Unavailable | Refused] = Unavailable
) -> Unavailable | Refused:
    """Return the failure of a service that is not reachable."""
    problem = f"no connection to this address ({error_text(error)})"
    return kind(problem, hint, reason=Reason.UNREACHABLE)


def error_text(error: Exception) -> str:
    """Return the text of ``error`` for a message."""
    return sanitize(str(error))


def fresh_response(request: Request) -> Steps[Response]:
    """Send ``request`` and return a response that is recent.

    Raise ReadFailed if it is not recent.

    If reading it took a minute longer than allowed, the process was suspended in the meantime,
    and the response may be outdated.
    """
    response = yield from send(request)
    seconds = response.received_at - response.sent_at
    if seconds > max(_MAX_READ_DELAY, request.seconds):
        raise ReadFailed(f"the response was read {seconds:.0f} s after the request")
    return response


class Backoff:
    """The pauses between the attempts of one request. None stops the attempts."""

    def __init__(
        self,
        random: Random,
        rules: Mapping[int, RetryRule] = TOKEN_RULES,
        retry_options: RetryOptions = DEFAULT_RETRY,
    ) -> None:
        self._random = random
        self._rules = rules
        self._options = retry_options
        self._attempts = 0
        self._connects_failed = self._reads_failed = self._responses = 0
        self._paused = 0.0
        self._budget = 0.0
        self._connect_seconds = 0.0

    @property
    def failure_class(self) -> type[Unavailable | Refused]:
        """The class of the failure if the service stops responding.

        After a response, it is certain that the service exists: a chain must not continue with
        another identity because the service is overloaded.
        """
        return Refused if self._responses else Unavailable

    def after_response(self, response: Response) -> float | None:
        """Return the seconds to wait after this response."""
        extra = self._options.statuses or ()
        rule = self._rules.get(response.status, RetryRule() if response.status in extra else None)
        self._responses += 1
        if rule is None or _is_spent(self._responses, self._options.status_attempts):
            return None
        retry_after = response.retry_after
        if retry_after is not None and retry_after > _MAX_RETRY_AFTER:
            return None
        return self._next_pause(rule, at_least=retry_after or 0.0)

    def after_read_failed(self) -> float | None:
        """Return the seconds to wait after a request without a complete response."""
        self._reads_failed += 1
        if _is_spent(self._reads_failed, self._options.read_attempts):
            return None
        return self._next_pause(_AFTER_READ_FAILED)

    def after_connect_failed(self, error: ConnectFailed) -> float | None:
        """Return the seconds to wait after a failed attempt to connect."""
        self._connects_failed += 1
        if _is_spent(self._connects_failed, self._options.connect_attempts):
            return None
        if self._responses or self._reads_failed:
            return self._next_pause(_AFTER_READ_FAILED)
        self._connect_seconds += error.seconds
        pause = self._options.pause(_FIRST_CONNECT_PAUSE, _MAX_CONNECT_PAUSE, self._doublings())
        seconds = self._with_jitter(pause)
        self._attempts += 1
        # The next attempt probably takes as long as this one.
        next_seconds = seconds + min(error.seconds, CONNECT_SECONDS)
        spent = self._connect_seconds + self._paused + next_seconds
        is_over = self._attempts >= _MAX_CONNECT_ATTEMPTS or spent > _MAX_CONNECT_SECONDS
        if _is_spent(self._attempts, self._options.attempts):
            return None
        if is_over and self._options.connect_attempts is None:
            return None
        return self._noted(seconds)

    def _next_pause(self, rule: RetryRule, at_least: float = 0.0) -> float | None:
        """Return the seconds to wait according to ``rule``, at least ``at_least``."""
        self._budget = max(self._budget, rule.budget)
        pause = self._options.pause(_FIRST_PAUSE, _MAX_PAUSE, self._doublings())
        self._attempts += 1
        if self._options.attempts is not None:
            is_over = _is_spent(self._attempts, self._options.attempts)
        else:
            is_over = self._attempts >= _MAX_ATTEMPTS and self._paused >= self._budget
        if is_over:
            return None
        # Jitter on top of Retry-After: all throttled clients would return at the same moment.
        min_pause = max(rule.min_pause, at_least and at_least + self._random())
        seconds = self._with_jitter(pause)
        if self._options.attempts is None and self._attempts >= _MAX_ATTEMPTS:
            # Only the budget is left.
            seconds = min(seconds, max(self._budget - self._paused, _SHORTEST_LAST_PAUSE))
        return self._noted(max(seconds, min_pause))

    def _doublings(self) -> int:
        return min(self._attempts, _MAX_DOUBLINGS)

    def _with_jitter(self, seconds: float) -> float:
        return seconds * (0.5 + self._random())

    def _noted(self, seconds: float) -> float:
        self._paused += seconds
        return seconds


def _is_spent(attempts: int, limit: int | None) -> bool:
    return limit is not None and attempts >= limit
