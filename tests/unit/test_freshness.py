from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_identity._core.freshness import State, back_off_delay, decide, refresh_delay
from imds_identity._core.token import Token

HOUR = 3600.0


def token(refresh_at: float, expires_at: float) -> Token:
    return Token("t", "Bearer", 0, 0, 0.0, refresh_at, expires_at)


def test_a_token_is_fresh_then_due_then_expired() -> None:
    held = token(50, 100)
    assert decide(None, 0) is State.EXPIRED
    assert [decide(held, now) for now in (0, 49.9, 50, 99.9, 100, 101)] == [
        State.FRESH, State.FRESH, State.DUE, State.DUE, State.EXPIRED, State.EXPIRED,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("lifetime", "refresh_in", "delay"),
    [
        (24 * HOUR, None, 12 * HOUR),
        (2 * HOUR, None, HOUR),
        (2 * HOUR - 1, None, HOUR),
        (HOUR, None, HOUR - 300),
        (601.0, None, 301.0),
        (301.0, None, 150.5),
        (200.0, None, 100.0),
        (24 * HOUR, 6 * HOUR, 6 * HOUR),
        (24 * HOUR, 24 * HOUR - 1, 24 * HOUR - 300),
        (24 * HOUR, 25 * HOUR, 24 * HOUR - 300),
        (200.0, 150, 100.0),
        (24 * HOUR, 0, 12 * HOUR),
    ],
)
def test_refresh_time_depends_on_the_lifetime(
    lifetime: float, refresh_in: float | None, delay: float
) -> None:
    assert refresh_delay(lifetime, refresh_in, 0.0) == delay


@given(
    st.floats(0.001, 1e9),
    st.none() | st.floats(-1e9, 1e9),
    st.floats(0, 1, exclude_max=True),
)
def test_jitter_brings_a_refresh_forward_by_a_tenth_at_most(
    lifetime: float, refresh_in: float | None, random: float
) -> None:
    latest = refresh_delay(lifetime, refresh_in, 0.0)
    assert 0 < latest < lifetime
    assert 0.9 * latest <= refresh_delay(lifetime, refresh_in, random) <= latest


@given(
    st.floats(0.001, 1e6) | st.floats(200, 8000),
    st.floats(0, 1e6) | st.floats(0, 100),
    st.none() | st.floats(0.001, 1e6),
)
def test_refresh_delay_grows_with_the_lifetime_and_never_jumps(
    lifetime: float, more: float, refresh_in: float | None
) -> None:
    growth = refresh_delay(lifetime + more, refresh_in, 0.0) - refresh_delay(
        lifetime, refresh_in, 0.0
    )
    assert -1e-6 <= growth <= more + 1e-6


def test_back_off_delays_grow_up_to_a_limit() -> None:
    waits = [back_off_delay(n, 0.5) for n in range(1, 40)]
    assert waits[:5] == [30, 60, 120, 240, 300]
    assert waits == sorted(waits)
    assert waits[-1] == 300
