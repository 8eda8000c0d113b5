"""When to ask again, and after how long.

| outcome             | rule                                                                |
|---------------------|---------------------------------------------------------------------|
| 404                 | the endpoint is being updated: exponential                          |
| 410                 | the service is being updated, back within 70 s: go on for that long |
| 429                 | throttled: ``Retry-After`` if given, else exponential               |
| 5xx                 | transient: exponential, at least 1 s apart                          |
| dropped, too late   | the endpoint is being updated: exponential                          |
| not reached at all  | give up within 10 s, unless it answered a moment ago                |
| anything else       | final                                                               |

Exponential is the schedule Microsoft publishes, five attempts at about 0, 2, 6, 14 and 30 s, each
pause spread by half of itself either way so that peers do not come back in step.
https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token#retry-guidance
"""

from __future__ import annotations

from .._core.failure import Reason, Unavailable, sanitize
from .._platform.named_tuple import NamedTuple
from .exchange import (
    CONNECT_SECONDS,
    ConnectFailed,
    Random,
    ReadFailed,
    Request,
    Response,
    Steps,
    pause,
    send,
)
from .retry_options import DEFAULT_RETRY, RetryOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_ATTEMPTS = 5
_FIRST_PAUSE = 2.0
_LONGEST_PAUSE = 16.0
_MOST_DOUBLINGS = 16
_LONGEST_RETRY_AFTER = 60.0
_CONNECT_ATTEMPTS = 3
_CONNECT_FIRST_PAUSE = 0.5
_CONNECT_SECONDS = 10.0
_LATE_SECONDS = 60.0


class Rule(NamedTuple):
    """How an outcome is retried.

    Attributes:
        shortest: seconds that must lie between two attempts.
        budget: seconds of pauses for which to go on, however many attempts that takes.
    """

    shortest: float = 0.0
    budget: float = 0.0


TOKEN_RULES: Mapping[int, Rule] = {
    404: Rule(),
    410: Rule(budget=70.0),
    429: Rule(),
    **{status: Rule(shortest=1.0) for status in range(500, 600)},
}
_AFTER_READ_FAILED = Rule()


def with_retries(
    request: Request,
    random: Random,
    absent: str,
    rules: Mapping[int, Rule] = TOKEN_RULES,
    retry_options: RetryOptions = DEFAULT_RETRY,
    is_own: Callable[[Response], bool] | None = None,
) -> Steps[Response]:
    """Send ``request`` until there is an answer that asking again would not change.

    Args:
        request: what to send, each time the same.
        random: spreads the pauses.
        absent: what to tell a reader where nothing answers at all.
        rules: how each status is retried that is; they belong to the operation, not the service.
        retry_options: what the caller wants otherwise.
        is_own: whether an answer is the service's own, where others may answer in its place: what
            those ask for is not heeded.

    Raises:
        Unavailable: when nothing answers at all, or no answer is complete.
    """
    backoff = Backoff(random, rules, retry_options)
    request = request.with_timeouts(retry_options.connect_seconds, retry_options.request_seconds)
    while True:
        try:
            response = yield from fresh_response(request)
        except ConnectFailed as error:
            seconds = backoff.after_connect_failed(error)
            if seconds is None:
                raise Unavailable(
                    f"nothing answers at this address ({sanitize(str(error))})",
                    absent,
                    reason=Reason.UNREACHABLE,
                ) from None
        except ReadFailed as error:
            seconds = backoff.after_read_failed()
            if seconds is None:
                raise Unavailable(
                    f"the service takes connections but does not answer ({sanitize(str(error))})",
                    "It is being updated or is overloaded; that mostly passes within minutes.",
                    reason=Reason.NO_RESPONSE,
                ) from None
        else:
            heeded = is_own is None or response.status not in rules or is_own(response)
            seconds = backoff.after_response(response) if heeded else backoff.after_read_failed()
            if seconds is None:
                return response
        yield from pause(seconds)


def fresh_response(request: Request) -> Steps[Response]:
    """An answer that is as good as new.

    What takes a minute, and was not meant to, was stopped in between: what was true when the
    answer was written need not be so when it is read.

    Raises:
        ReadFailed: if it is not.
    """
    response = yield from send(request)
    seconds = response.received_at - response.sent_at
    if seconds > max(_LATE_SECONDS, request.seconds):
        raise ReadFailed(f"the answer was read {seconds:.0f} s after it was asked for")
    return response


class Backoff:
    """The pauses of one leg of an exchange. Each question answers None for "give up"."""

    def __init__(
        self,
        random: Random,
        rules: Mapping[int, Rule] = TOKEN_RULES,
        retry_options: RetryOptions = DEFAULT_RETRY,
    ) -> None:
        self._random = random
        self._rules = rules
        self._patience = retry_options
        self._attempts = 0
        self._connect_failed = self._read_failed = self._answered = 0
        self._paused = 0.0
        self._budget = 0.0
        self._connect_seconds = 0.0

    def after_response(self, response: Response) -> float | None:
        """Seconds to wait after this answer."""
        extra = self._patience.statuses or ()
        rule = self._rules.get(response.status, Rule() if response.status in extra else None)
        self._answered += 1
        if rule is None or _is_spent(self._answered, self._patience.status_attempts):
            return None
        wanted = retry_after(response)
        if wanted is not None and wanted > _LONGEST_RETRY_AFTER:
            return None
        return self._after(rule, at_least=wanted or 0.0)

    def after_read_failed(self) -> float | None:
        """Seconds to wait after a request that got no complete answer."""
        self._read_failed += 1
        if _is_spent(self._read_failed, self._patience.read_attempts):
            return None
        return self._after(_AFTER_READ_FAILED)

    def after_connect_failed(self, error: ConnectFailed) -> float | None:
        """Seconds to wait after a connection that could not be made."""
        self._connect_failed += 1
        if _is_spent(self._connect_failed, self._patience.connect_attempts):
            return None
        if self._answered or self._read_failed:
            return self._after(_AFTER_READ_FAILED)
        self._connect_seconds += error.seconds
        pause = self._patience.pause(_CONNECT_FIRST_PAUSE, _LONGEST_PAUSE, self._doublings())
        seconds = self._spread(pause)
        self._attempts += 1
        spent = self._connect_seconds + self._paused + seconds + CONNECT_SECONDS
        over = self._attempts >= _CONNECT_ATTEMPTS or spent > _CONNECT_SECONDS
        if _is_spent(self._attempts, self._patience.attempts):
            return None
        if over and self._patience.connect_attempts is None:
            return None
        return self._pause(seconds)

    def _after(self, rule: Rule, at_least: float = 0.0) -> float | None:
        """Seconds to wait by ``rule``, and no less than ``at_least``."""
        self._budget = max(self._budget, rule.budget)
        pause = self._patience.pause(_FIRST_PAUSE, _LONGEST_PAUSE, self._doublings())
        self._attempts += 1
        if self._patience.attempts is not None:
            over = _is_spent(self._attempts, self._patience.attempts)
        else:
            over = self._attempts >= _ATTEMPTS and self._paused >= self._budget
        if over:
            return None
        # On top of what the service asked for, or all that were told the same come back at once.
        shortest = max(rule.shortest, at_least and at_least + self._random())
        return self._pause(max(self._spread(pause), shortest))

    def _doublings(self) -> int:
        return min(self._attempts, _MOST_DOUBLINGS)

    def _spread(self, seconds: float) -> float:
        return seconds * (0.5 + self._random())

    def _pause(self, seconds: float) -> float:
        self._paused += seconds
        return seconds


def _is_spent(attempts: int, most: int | None) -> bool:
    return most is not None and attempts >= most


def retry_after(response: Response) -> float | None:
    """Seconds for which ``response`` asks to be left alone, if it says so intelligibly."""
    value = response.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    moment = http_date(value)
    if moment is None:
        return None
    return max(
        0.0, moment - (http_date(response.headers.get("date", "")) or response.received_wall)
    )


def http_date(value: str) -> float | None:
    """Unix time of an HTTP date, or None if ``value`` is none."""
    if not value:
        return None
    from datetime import timezone
    from email.utils import parsedate_to_datetime

    try:
        moment = parsedate_to_datetime(value)
        # Without a zone (-0000) it is UTC and not this machine's time.
        return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
