from __future__ import annotations

import json
import pickle
import re
import time
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imds_identity._core.failure import Failure, Malformed, Reason, Unavailable
from imds_identity._core.freshness import back_off
from imds_identity._http.dates import http_date
from imds_identity._sources.token_parsing import token_from
from support import EPOCH, FakeClock, ResponseFactory, no_jitter

if TYPE_CHECKING:
    from imds_identity._core.token import Token
    from imds_identity._http.messages import Response

OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda n: timezone(timedelta(minutes=n)))


def test_the_lifetime_comes_from_expires_on(clock: FakeClock, responses: ResponseFactory) -> None:
    token = token_from(responses.token("secret", lifetime=3600), no_jitter())
    assert token.value == "secret"
    assert token.expires_on == int(clock.service() + 3600)
    assert token.expires_at == pytest.approx(clock.now() + 3600, abs=1)


@pytest.mark.parametrize("skew", [-40_000.0, -60.0, 60.0, 40_000.0])
def test_clock_skew_changes_only_expires_on(
    clock: FakeClock, responses: ResponseFactory, skew: float
) -> None:
    clock.skew = skew
    token = token_from(responses.token(lifetime=3600), no_jitter())
    assert token.expires_at == pytest.approx(clock.now() + 3600, abs=1)
    assert token.expires_on == pytest.approx(clock.wall() + 3600, abs=1)


def test_one_second_between_clocks_is_not_skew(
    clock: FakeClock, responses: ResponseFactory
) -> None:
    clock.skew = 1.5
    token = token_from(responses.token(lifetime=3600), no_jitter())
    assert token.expires_on == int(clock.service() + 3600)


def test_expires_in_only_shortens_the_lifetime(responses: ResponseFactory) -> None:
    received = responses.clock.now()
    shorter = token_from(responses.token(lifetime=3600, expires_in="600"), no_jitter())
    longer = token_from(responses.token(lifetime=3600, expires_in="86400"), no_jitter())
    without = token_from(responses.token(lifetime=3600, expires_in=None), no_jitter())
    assert shorter.expires_at == received + 600
    assert longer.expires_at == without.expires_at == pytest.approx(received + 3600, abs=1)


@pytest.mark.parametrize("seconds", [3598, 3599, 3600])
def test_expires_in_that_was_rounded_down_is_no_earlier_expiry(
    clock: FakeClock, responses: ResponseFactory, seconds: int
) -> None:
    clock.seconds += 0.7
    token = token_from(responses.token(lifetime=3600, expires_in=seconds), no_jitter())
    assert token.expires_on == int(clock.service() + 3600)


def test_local_clock_is_used_without_a_date_header(responses: ResponseFactory) -> None:
    for date in ("", "yesterday", "99999"):
        answer = responses.token(lifetime=3600)
        answer.headers = {**answer.headers, "date": date}
        assert token_from(answer, no_jitter()).expires_at == pytest.approx(
            responses.clock.now() + 3600, abs=1
        )


def test_refresh_falls_due_when_the_service_says(responses: ResponseFactory) -> None:
    token = token_from(responses.token(lifetime=86400, refresh_in="600"), 0.0)
    assert token.refresh_at == responses.clock.now() + 600
    assert token.refresh_on == int(responses.clock.wall() + 600)


@pytest.mark.parametrize("number", ["1750090000", 1750090000, 1750090000.0, "1750090000.7"])
def test_numbers_may_be_strings(responses: ResponseFactory, number: object) -> None:
    token = token_from(responses.token(expires_on=number, expires_in=None), no_jitter())
    assert token.expires_on == 1750090000


INVALID_NUMBERS: list[Any] = [
    "soon", "-1", -1, "1e9", 1e400, True, [], [1], {}, float("nan"), "9" * 40, 10**30, "", None,
    "٣٦٠٠", " 5", "2026-11-21T12:00:00",
]  # fmt: skip


@pytest.mark.parametrize("number", INVALID_NUMBERS)
def test_one_valid_expiry_is_sufficient(responses: ResponseFactory, number: Any) -> None:
    now = responses.clock.now()
    token = token_from(responses.token(lifetime=3600, expires_on=number), no_jitter())
    assert (token.expires_at, token.expires_on) == (now + 3600, responses.clock.wall() + 3600)
    token = token_from(responses.token(lifetime=3600, expires_in=number), no_jitter())
    assert token.expires_at == pytest.approx(now + 3600, abs=1)


@pytest.mark.parametrize("number", INVALID_NUMBERS)
@pytest.mark.parametrize("expires_in", ["soon", 0, None])
def test_token_without_a_valid_expiry_is_refused(
    responses: ResponseFactory, number: Any, expires_in: Any
) -> None:
    response = responses.token(expires_on=number, expires_in=expires_in)
    with pytest.raises(Malformed, match="neither a valid expires_on nor an expires_in above 0"):
        token_from(response, no_jitter())


@pytest.mark.parametrize("number", INVALID_NUMBERS)
def test_invalid_refresh_in_is_ignored(responses: ResponseFactory, number: Any) -> None:
    token = token_from(responses.token(refresh_in=number), no_jitter())
    assert token == token_from(responses.token(), no_jitter())


@pytest.mark.parametrize("seconds", [60, 0])
def test_expired_token_is_refused(responses: ResponseFactory, seconds: int) -> None:
    expired = rf"expired {seconds} s ago.*Check this machine's clock"
    with pytest.raises(Malformed, match=expired):
        token_from(responses.token(lifetime=-seconds, expires_in=None), no_jitter())


@pytest.mark.parametrize("moment", [0, "0", 0.0, 1, "1970-01-01T00:00:00Z"])
def test_expiry_in_1970_is_an_expired_token(responses: ResponseFactory, moment: Any) -> None:
    with pytest.raises(Malformed) as caught:
        token_from(responses.token(expires_on=moment), no_jitter())
    assert caught.value.reason is Reason.TOKEN_EXPIRED


@pytest.mark.parametrize("token_type", ["pop", "Basic", "Bearer\r\nX-Evil: 1", ""])
def test_a_token_of_an_unknown_type_is_refused(responses: ResponseFactory, token_type: Any) -> None:
    with pytest.raises(Malformed, match="token_type is not Bearer") as caught:
        token_from(responses.token(token_type=token_type), no_jitter())
    assert "Evil" not in str(caught.value)


@pytest.mark.parametrize("token_type", ["Bearer", "bearer", "BEARER", None, 1, 1.5, [], {}, True])
def test_token_type_is_bearer_in_any_case_or_ignored(
    responses: ResponseFactory, token_type: Any
) -> None:
    assert token_from(responses.token(token_type=token_type), no_jitter()).token_type == "Bearer"


def test_expires_in_of_zero_is_ignored(responses: ResponseFactory) -> None:
    """Cloud Shell writes it beside every expires_on."""
    token = token_from(responses.token(lifetime=3600, expires_in=0), no_jitter())
    assert token.expires_at == pytest.approx(responses.clock.now() + 3600, abs=1)
    with pytest.raises(Malformed, match="expired"):
        token_from(responses.token(lifetime=-5, expires_in="0"), no_jitter())


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("06/20/2025 02:57:58 +00:00", (2025, 6, 20, 2, 57, 58)),
        ("6/20/2025 2:57:58 PM +00:00", (2025, 6, 20, 14, 57, 58)),
        ("6/20/2025 12:07:58 AM +00:00", (2025, 6, 20, 0, 7, 58)),
        ("6/20/2025 12:07:58 PM +00:00", (2025, 6, 20, 12, 7, 58)),
    ],
)
def test_dates_of_azure_ml_are_understood(
    responses: ResponseFactory, written: str, moment: tuple[int, int, int, int, int, int]
) -> None:
    token = token_from(responses.token(expires_on=written, expires_in=None), no_jitter())
    assert token.expires_on == datetime(*moment, tzinfo=timezone.utc).timestamp()


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("2025-06-20T14:57:58.0000000+00:00", (2025, 6, 20, 14, 57, 58)),
        ("2025-06-20T14:57:58.1234567Z", (2025, 6, 20, 14, 57, 58)),
        ("2025-06-20T14:57:58Z", (2025, 6, 20, 14, 57, 58)),
        ("2025-06-20t14:57:58z", (2025, 6, 20, 14, 57, 58)),
        ("2025-06-20T14:57:58+05:30", (2025, 6, 20, 9, 27, 58)),
        ("2025-06-20T14:57:58+0530", (2025, 6, 20, 9, 27, 58)),
        ("2025-06-20T14:57:58.9-08:00", (2025, 6, 20, 22, 57, 58)),
        ("2025-06-20 14:57:58 +00:00", (2025, 6, 20, 14, 57, 58)),
    ],
)
def test_iso_8601_dates_are_understood(
    responses: ResponseFactory, written: str, moment: tuple[int, int, int, int, int, int]
) -> None:
    token = token_from(responses.token(expires_on=written, expires_in=None), no_jitter())
    assert token.expires_on == datetime(*moment, tzinfo=timezone.utc).timestamp()


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="needs POSIX time zones")
@pytest.mark.parametrize("written", ["06/20/2025 02:57:58 +00:00", "2025-06-20T02:57:58Z"])
def test_dates_do_not_depend_on_the_time_zone_of_the_machine(
    responses: ResponseFactory, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Kolkata")
        time.tzset()
        token = token_from(responses.token(expires_on=written, expires_in=None), no_jitter())
    time.tzset()
    assert token.expires_on == datetime(2025, 6, 20, 2, 57, 58, tzinfo=timezone.utc).timestamp()


@given(st.datetimes(datetime(2025, 7, 1), datetime(2900, 1, 1), timezones=OFFSETS))  # noqa: DTZ001
def test_any_iso_8601_date_equals_its_unix_time(moment: datetime) -> None:
    responses = ResponseFactory(FakeClock())
    written = f"{moment:%Y-%m-%dT%H:%M:%S}.1234567{moment.isoformat()[-6:]}"
    tokens = [
        token_from(responses.token(expires_on=expires_on, expires_in=None), 0.5)
        for expires_on in (written, int(moment.replace(microsecond=0).timestamp()))
    ]
    assert tokens[0] == tokens[1]


@pytest.mark.parametrize(
    "written",
    [
        "2025-06-20T14:57:58", "2025-06-20", "2025-02-30T14:57:58Z", "2025-06-20T24:57:58Z",
        "2025-06-20T14:57:58+25:00", "2025-06-20T14:57Z", "20250620T145758Z",
        "20/06/2025 02:57:58 +00:00", "06/20/2025 02:57:58", "06/20/2025 02:57:58 +01:00",
        "06/20/2025 13:57:58 PM +00:00", "06/20/2025 00:57:58 AM +00:00",
        "02/30/2025 02:57:58 +00:00", "6/20/0000 2:57:58 +00:00", "06/20/2025 24:00:00 +00:00",
    ],
)  # fmt: skip
def test_invalid_date_is_refused(responses: ResponseFactory, written: str) -> None:
    with pytest.raises(Malformed, match="neither a valid expires_on"):
        token_from(responses.token(expires_on=written, expires_in=None), no_jitter())


@given(st.datetimes(min_value=datetime(2025, 7, 1), max_value=datetime(2900, 1, 1)))  # noqa: DTZ001
def test_both_date_formats_of_azure_ml_are_equal(moment: datetime) -> None:
    responses = ResponseFactory(FakeClock())
    day = f"{moment.month}/{moment.day}/{moment.year}"
    linux = f"{day} {moment:%H:%M:%S} +00:00"
    windows = f"{day} {moment.hour % 12 or 12}:{moment:%M:%S} {'AP'[moment.hour // 12]}M +00:00"
    ends = {
        token_from(responses.token(expires_on=written, expires_in=None), 0.5).expires_on
        for written in (linux, windows)
    }
    assert ends == {int(moment.replace(microsecond=0, tzinfo=timezone.utc).timestamp())}


def test_a_token_beyond_the_year_3000_is_refused(responses: ResponseFactory) -> None:
    with pytest.raises(Malformed, match="year 3000"):
        token_from(responses.token(expires_on="999999999999", expires_in=None), no_jitter())


def test_a_token_may_expire_at_the_end_of_the_year_2999(responses: ResponseFactory) -> None:
    end = int(datetime(3000, 1, 1, tzinfo=timezone.utc).timestamp())
    token = token_from(responses.token(expires_on=end, expires_in=None), no_jitter())
    assert token.expires_on == end
    with pytest.raises(Malformed, match="year 3000"):
        token_from(responses.token(expires_on=end + 1, expires_in=None), no_jitter())


def test_a_token_has_at_most_65536_characters(responses: ResponseFactory) -> None:
    assert len(token_from(responses.token("x" * 65536), no_jitter()).value) == 65536
    with pytest.raises(Malformed, match="too long"):
        token_from(responses.token("x" * 65537), no_jitter())


def late(responses: ResponseFactory, seconds: float, **token: Any) -> Response:
    """An answer that is read so long after it was written."""
    answer = responses.token(**token)
    responses.clock.seconds += seconds
    answer.received_at, answer.received_wall = responses.clock.now(), responses.clock.wall()
    return answer


@pytest.mark.parametrize("skew", [-7200.0, -60.0, 0.0, 60.0, 7200.0])
@pytest.mark.parametrize("frozen", [0.0, 30.0, 36_000.0])
def test_suspended_process_does_not_extend_the_lifetime(
    clock: FakeClock, responses: ResponseFactory, skew: float, frozen: float
) -> None:
    clock.skew = skew
    sent = clock.now()
    token = token_from(late(responses, frozen, lifetime=86400), no_jitter())
    assert token.received_at == sent
    assert token.expires_at == pytest.approx(sent + 86400, abs=2)
    assert token.expires_on == pytest.approx(clock.wall() - frozen + 86400, abs=2)


def test_date_without_a_zone_is_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "Sun, 15 Jun 2025 15:06:40 -0000"
    assert http_date(said) == http_date(said.replace("-0000", "GMT")) == EPOCH


@pytest.mark.parametrize(
    "value", ["", None, 7, ["a"], "a\r\nb", "\x00", "tökén", "a b", "x" * 70_000]
)
def test_invalid_access_token_is_refused(responses: ResponseFactory, value: Any) -> None:
    with pytest.raises(Malformed, match="access_token"):
        token_from(responses.token(access_token=value), no_jitter())


@pytest.mark.parametrize(
    ("body", "kind", "error"),
    [
        (b"<html>sign in</html>", "text/html", Unavailable),
        (b"{This is a text response}", "text/html; charset=UTF-8", Unavailable),
        (b"", "text/plain", Unavailable),
        (b'{"access_token": "secret", "expi', "application/json", Malformed),
        (b"", "application/json", Malformed),
        (b"\xff\xfe", "application/json", Malformed),
        (b"[" * 100_000, "application/json", Malformed),
        (b"[]", "application/json", Malformed),
        (b'["access_token"]', "text/plain", Malformed),
        (b"null", "application/json", Malformed),
        (b'"secret"', "application/json", Malformed),
        (b'{"access_token": ' + b"[" * 100_000, "application/json", Malformed),
        (b'{"access_token": "secret"', "\x1b[31m json eyJhbGciOiJSUzI1NiJ9.e30", Malformed),
    ],
)
def test_garbage_is_classified_and_not_quoted(
    responses: ResponseFactory, body: bytes, kind: str, error: type[Failure]
) -> None:
    with pytest.raises(error) as caught:
        token_from(responses.raw(200, body, content_type=kind), no_jitter())
    assert caught.value.status == 200
    assert "secret" not in str(caught.value)
    assert "eyJ" not in str(caught.value)
    assert str(caught.value).isprintable()
    # An error's context would keep the parser's, which holds the whole text.
    assert caught.value.__context__ is None


@settings(max_examples=100)
@given(
    st.dictionaries(
        st.sampled_from(["access_token", "expires_on", "expires_in", "refresh_in", "token_type"]),
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text()
        | st.lists(st.integers())
        | st.sampled_from(["bearer", "a-token", "3600", str(int(EPOCH) + 9999), 10**400, 1e308]),
    ),
    st.text(max_size=40),
)
def test_any_json_object_is_a_token_or_a_failure(payload: dict[str, Any], date: str) -> None:
    clock = FakeClock()
    answer = ResponseFactory(clock).raw(200, json.dumps(payload), content_type="application/json")
    answer.headers = {**answer.headers, "date": date}
    try:
        token = token_from(answer, 0.3)
    except Failure:
        return
    assert token.value == payload["access_token"]
    assert re.fullmatch("[!-~]+", token.value)
    assert token.token_type == "Bearer"
    assert clock.now() < token.refresh_at < token.expires_at


@given(st.floats(-1e8, 1e8), st.integers(5, 10**6), st.none() | st.integers(5, 10**6))
def test_no_token_outlives_its_expiry_at_the_service(
    skew: float, lifetime: int, expires_in: int | None
) -> None:
    clock = FakeClock()
    clock.skew = skew
    answer = ResponseFactory(clock).token(lifetime=lifetime, expires_in=expires_in)
    bound = lifetime if expires_in is None else min(lifetime, expires_in)
    assert token_from(answer, 0.3).expires_at <= clock.now() + bound + 2.01


def test_token_is_neither_shown_nor_pickled(
    responses: ResponseFactory,
) -> None:
    token = token_from(responses.token("secret"), no_jitter())
    assert "secret" not in repr(token)
    assert "secret" not in f"{token}"
    assert "secret" not in repr(responses.token("secret"))
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(token)


def test_equal_tokens_have_equal_hashes(responses: ResponseFactory) -> None:
    token = token_from(responses.token(), no_jitter())
    assert len({token, token.replace(), token.replace(value="other")}) == 2
    assert token != "a-token"


def test_back_off_changes_only_the_refresh_time(
    responses: ResponseFactory,
) -> None:
    token: Token = token_from(responses.token(), no_jitter())
    now = token.refresh_at
    later = back_off(token, now, no_jitter(), None)
    assert (later.refresh_at, later.refresh_on) == (now + 30, token.refresh_on + 30)
    assert later.replace(refresh_at=now, refresh_on=token.refresh_on, failed_refreshes=0) == token
    assert back_off(later, now, no_jitter(), None).refresh_at == now + 60
    assert back_off(later, now, no_jitter(), 900.0).refresh_at == now + 900
