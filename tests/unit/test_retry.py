from __future__ import annotations

from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_identity._core.failure import Failure, Unavailable
from imds_identity._http.dates import retry_after_seconds
from imds_identity._http.exchange import ConnectFailed, Pause, ReadFailed, Send
from imds_identity._http.messages import CONNECT_SECONDS, Request, Response
from imds_identity._http.retry import TOKEN_RULES, RetryRule, fresh_response, with_retries
from imds_identity._http.retry_options import DEFAULT_RETRY, RetryOptions
from support import FakeClock, ResponseFactory, no_jitter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

REQUEST = Request("http://service/token", {})
Outcome = Response | Exception


def pauses(
    outcome: Callable[[int], Outcome],
    random: Callable[[], float] = no_jitter,
    rules: Mapping[int, RetryRule] = TOKEN_RULES,
    retry_options: RetryOptions = DEFAULT_RETRY,
    **more: Any,
) -> tuple[list[float], Any]:
    """All pauses of a leg whose n-th request has this outcome, and how the leg ends."""
    steps = with_retries(REQUEST, random, "no service", rules, retry_options, **more)
    taken: list[float] = []
    try:
        step = next(steps)
        for sent in range(200):
            assert step == Send(REQUEST)
            result = outcome(sent)
            step = steps.throw(result) if isinstance(result, Exception) else steps.send(result)
            assert isinstance(step, Pause)
            taken.append(step.seconds)
            step = steps.send(None)
    except StopIteration as done:
        return taken, done.value
    except Failure as failure:
        return taken, failure
    raise AssertionError("it never ends")


def unreached(seconds: float) -> ConnectFailed:
    error = ConnectFailed("refused")
    error.seconds = seconds
    return error


@pytest.mark.parametrize("status", [404, 429, 500, 502, 503, 504, 599])
def test_documented_backoff_is_used(responses: ResponseFactory, status: int) -> None:
    taken, end = pauses(lambda _: responses.error(status))
    assert taken == [2, 4, 8, 16]
    assert end.status == status


@pytest.mark.parametrize("status", [200, 204, 301, 307, 400, 401, 403, 405, 418, 499, 600])
def test_other_responses_are_final(responses: ResponseFactory, status: int) -> None:
    taken, end = pauses(lambda _: responses.error(status))
    assert taken == []
    assert end.status == status


def test_final_statuses_depend_on_the_operation(responses: ResponseFactory) -> None:
    """A token endpoint that answers 404 is being updated; other categories have no such thing."""
    rules = {status: rule for status, rule in TOKEN_RULES.items() if status != 404}
    taken, end = pauses(lambda _: responses.error(404), rules=rules)
    assert (taken, end.status) == ([], 404)
    taken, end = pauses(lambda _: responses.error(503), rules=rules)
    assert (taken, end.status) == ([2, 4, 8, 16], 503)


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=1))
def test_410_is_retried_for_70_seconds_with_any_jitter(numbers: list[float]) -> None:
    dice = iter(numbers * 100)
    responses = ResponseFactory(FakeClock())
    taken, end = pauses(lambda _: responses.error(410), lambda: next(dice))
    assert 69.999 < sum(taken) < 71.001
    assert sum(taken[:-1]) < 70
    assert end.status == 410


def test_last_pause_before_the_end_of_an_update_is_shortened(responses: ResponseFactory) -> None:
    taken, _ = pauses(lambda _: responses.error(410))
    assert taken == [2, 4, 8, 16, 16, 16, 8]
    taken, _ = pauses(lambda _: responses.error(410), lambda: 0.625)
    assert taken == [2.25, 4.5, 9, 18, 18, 18, 1]


def test_update_budget_remains_after_other_outcomes(
    responses: ResponseFactory,
) -> None:
    taken, _ = pauses(lambda n: responses.error(410) if n == 0 else unreached(0.0))
    assert sum(taken) >= 70


def test_5xx_pauses_for_at_least_a_second(responses: ResponseFactory) -> None:
    taken, _ = pauses(lambda _: responses.error(500), lambda: 0.0)
    assert min(taken) >= 1


def test_jitter_spreads_clients(responses: ResponseFactory) -> None:
    early, _ = pauses(lambda _: responses.error(429), lambda: 0.0)
    late, _ = pauses(lambda _: responses.error(429), lambda: 0.999)
    assert early[0] == 1
    assert late[0] == pytest.approx(3, abs=0.01)


def test_pause_is_at_least_retry_after(responses: ResponseFactory) -> None:
    taken, _ = pauses(lambda _: responses.error(429, retry_after="20"))
    assert taken[0] == 20.5
    taken, _ = pauses(lambda _: responses.error(503, retry_after="0"))
    assert taken[0] == 2


def test_retry_after_of_a_minute_is_waited_for(responses: ResponseFactory) -> None:
    taken, end = pauses(lambda _: responses.error(429, retry_after="60"))
    assert taken == [60.5] * 4
    assert end.status == 429


@pytest.mark.parametrize("seconds", ["61", "600"])
def test_longer_retry_after_is_left_to_the_caller(responses: ResponseFactory, seconds: str) -> None:
    taken, end = pauses(lambda _: responses.error(429, retry_after=seconds))
    assert taken == []
    assert end.status == 429


def test_retry_after_date_uses_the_clock_of_the_service(responses: ResponseFactory) -> None:
    service = responses.clock.service()
    responses.clock.skew = 5000
    dates = {
        "retry_after": formatdate(service + 30, usegmt=True),
        "date": formatdate(service, usegmt=True),
    }
    assert responses.error(429, **dates).retry_after == 30


def test_retry_after_of_any_length_is_finite() -> None:
    assert retry_after_seconds("9" * 5000, 0.0) == 999_999_999
    assert retry_after_seconds(" 7 ", 0.0) == 7


@pytest.mark.parametrize(
    "value",
    [
        "",
        "-1",
        "1.5",
        "²",
        "soon",
        "Mon, 01 Jan 2024",
        "Mon, 32 Jan 2024 00:00:00 GMT",
        "Mon, 01 Jan 99999 00:00:00 GMT",
        "Mon, 01 Jan 2024 00:00:00 +99999999999999999999",
        ": Jan , +",
    ],
)
def test_invalid_retry_after_is_ignored(value: str) -> None:
    assert retry_after_seconds(value, 0.0) is None


@given(st.text())
def test_any_retry_after_is_seconds_or_none(value: str) -> None:
    respond = ResponseFactory(FakeClock()).raw(429, retry_after=value)
    seconds = respond.retry_after
    assert seconds is None or seconds >= 0


@pytest.mark.parametrize("seconds", [0.0, 0.001, CONNECT_SECONDS, 2 * CONNECT_SECONDS])
@pytest.mark.parametrize("dice", [0.0, 0.5, 0.999])
def test_late_service_is_awaited_for_ten_seconds(seconds: float, dice: float) -> None:
    taken, end = pauses(lambda _: unreached(seconds), lambda: dice)
    assert isinstance(end, Unavailable)
    assert "no service" in str(end)
    assert 6.5 <= sum(taken) + seconds * (len(taken) + 1) <= 10


def test_late_service_without_pauses_is_not_tried_forever() -> None:
    none = RetryOptions(first_pause=0)
    assert len(pauses(lambda _: unreached(0), retry_options=none)[0]) == 9


def test_final_response_is_not_retried(responses: ResponseFactory) -> None:
    assert pauses(lambda _: responses.error(500), is_final=lambda _: True)[0] == []
    assert pauses(lambda _: responses.error(500), is_final=lambda _: False)[0] == [2, 4, 8, 16]


@pytest.mark.parametrize(
    ("seconds", "taken"),
    [
        (0.0, [0.5, 1, 2, 2, 2, 2]),
        (2.0, [0.5, 1.0]),
        (4.0, [0.5]),
        (7.5, [0.5]),
        (7.6, []),
        (60.0, []),
    ],
)
def test_attempt_to_connect_starts_only_if_it_can_end_within_ten_seconds(
    seconds: float, taken: list[float]
) -> None:
    assert pauses(lambda _: unreached(seconds))[0] == taken


def test_dropped_connection_is_retried(responses: ResponseFactory) -> None:
    taken, end = pauses(lambda _: ReadFailed("reset"))
    assert taken == [2, 4, 8, 16]
    assert isinstance(end, Unavailable)
    assert "reset" in str(end)


def test_response_ends_the_retries(responses: ResponseFactory) -> None:
    outcomes: list[Outcome] = [
        unreached(0),
        ReadFailed("x"),
        responses.error(503),
        responses.token(),
    ]
    taken, end = pauses(outcomes.__getitem__)
    assert len(taken) == 3
    assert end.status == 200


def test_response_that_was_read_too_late_is_retried(
    responses: ResponseFactory,
) -> None:
    stale = responses.token()
    stale.sent_at -= 61
    taken, end = pauses([stale, responses.token("fresh")].__getitem__)
    assert (len(taken), end.fields().get("access_token")) == (1, "fresh")


@pytest.mark.parametrize(
    ("timeout", "seconds", "is_fresh"),
    [(12, 60, True), (12, 61, False), (100, 100, True), (100, 101, False)],
)
def test_response_may_be_read_a_minute_late_or_until_the_timeout(
    responses: ResponseFactory, timeout: float, seconds: float, is_fresh: bool
) -> None:
    response = responses.token()
    response.sent_at -= seconds
    steps = fresh_response(Request("http://x", {}, seconds=timeout))
    next(steps)
    with pytest.raises(StopIteration if is_fresh else ReadFailed):
        steps.send(response)


def many(responses: ResponseFactory, kind: str) -> Callable[[int], Outcome]:
    outcomes: dict[str, Callable[[int], Outcome]] = {
        "connect": lambda _: unreached(0.0),
        "read": lambda _: ReadFailed("reset"),
        "status": lambda _: responses.error(503),
        "updating": lambda _: responses.error(410),
        "throttled": lambda _: responses.error(429, retry_after="1"),
    }
    return outcomes[kind]


@pytest.mark.parametrize("kind", ["connect", "read", "status", "updating", "throttled"])
def test_single_attempt_is_never_repeated(responses: ResponseFactory, kind: str) -> None:
    taken, _ = pauses(many(responses, kind), retry_options=RetryOptions(attempts=1))
    assert taken == []


@pytest.mark.parametrize("kind", ["read", "status", "updating", "throttled"])
def test_number_of_attempts_is_configurable(responses: ResponseFactory, kind: str) -> None:
    for attempts in (2, 3, 12):
        taken, _ = pauses(many(responses, kind), retry_options=RetryOptions(attempts=attempts))
        assert len(taken) == attempts - 1


@pytest.mark.parametrize("kind", ["connect", "read", "status"])
def test_attempt_limits_of_outcomes_are_independent(responses: ResponseFactory, kind: str) -> None:
    wishes: dict[str, Any] = {f"{kind}_attempts": 2}
    wish = DEFAULT_RETRY._replace(**wishes)
    for other in ("connect", "read", "status"):
        taken, _ = pauses(many(responses, other), retry_options=wish)
        usual, _ = pauses(many(responses, other))
        assert len(taken) == (1 if other == kind else len(usual))


def test_connect_attempts_are_configurable(responses: ResponseFactory) -> None:
    taken, _ = pauses(many(responses, "connect"), retry_options=RetryOptions(connect_attempts=6))
    assert len(taken) == 5
    both = RetryOptions(attempts=3, connect_attempts=6)
    taken, _ = pauses(many(responses, "connect"), retry_options=both)
    assert len(taken) == 2


def test_configured_pauses_respect_retry_after(
    responses: ResponseFactory,
) -> None:
    wish = RetryOptions(first_pause=3, longest_pause=10)
    assert pauses(many(responses, "read"), retry_options=wish)[0] == [3, 6, 10, 10]
    fixed = RetryOptions(first_pause=3, growth=1)
    assert pauses(many(responses, "read"), retry_options=fixed)[0] == [3, 3, 3, 3]
    none = RetryOptions(first_pause=0)
    assert pauses(many(responses, "throttled"), retry_options=none)[0] == [1.5, 1.5, 1.5, 1.5]
    assert pauses(many(responses, "status"), retry_options=none)[0] == [1, 1, 1, 1]
    assert pauses(many(responses, "read"), retry_options=none)[0] == [0, 0, 0, 0]


def test_additional_statuses_can_be_retried(responses: ResponseFactory) -> None:
    taken, end = pauses(
        lambda _: responses.error(418), retry_options=RetryOptions(statuses=frozenset({418}))
    )
    assert (taken, end.status) == ([2, 4, 8, 16], 418)


def test_request_respects_the_timeouts_of_the_caller() -> None:
    wish = RetryOptions(connect_seconds=1, request_seconds=3)
    request = next(with_retries(REQUEST, no_jitter, "", retry_options=wish)).request  # type: ignore[union-attr]
    assert (request.connect_seconds, request.seconds) == (1, 3)
    assert next(with_retries(REQUEST, no_jitter, "")) == Send(REQUEST)


def test_pauses_stay_bounded() -> None:
    taken, _ = pauses(lambda _: ReadFailed("x"), retry_options=RetryOptions(attempts=199))
    assert max(taken) == 16
    long = RetryOptions(attempts=199, longest_pause=1e9, growth=2)
    assert max(pauses(lambda _: ReadFailed("x"), retry_options=long)[0]) == 2 * 2**16


def test_options_of_the_caller_precede_defaults() -> None:
    assert RetryOptions(attempts=1).with_defaults(
        RetryOptions(attempts=5, seconds=3)
    ) == RetryOptions(attempts=1, seconds=3)
