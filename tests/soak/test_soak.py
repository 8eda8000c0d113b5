"""The soak finds each violation that it looks for."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

if not hasattr(os, "fork") or not sys.platform.startswith("linux"):
    pytest.skip("needs Linux", allow_module_level=True)

from azure.core.credentials import AccessToken

from imds_identity import TokenRefusedError
from soak import tokens
from soak.call_checker import LEAKED, UNDOCUMENTED, CallChecker, CallSpec
from soak.event_log import EventLog, Reader
from soak.growth import Sample, excesses, measure_growth
from soak.report import RULES, Report
from soak.shared_state import RESOURCES, SharedState, monotonic
from soak.tokens import IssuedToken, encode
from soak.watch import HUNG, Watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RESOURCE = RESOURCES[0]
CALL = CallSpec("sync", RESOURCE, "an identity")


def valid_token(**changes: Any) -> IssuedToken:
    now = monotonic()
    return IssuedToken(RESOURCE, "an identity", now - 10, now + 60, 1)._replace(**changes)


class FakeCredential:
    """A credential that returns the result of a function."""

    def __init__(self, get: Callable[[], str]) -> None:
        self._get = get

    def get_token(self, *scopes: str, claims: str | None = None) -> AccessToken:
        return AccessToken(self._get(), 0)


class Harness:
    """A call checker, and the rules that it reports as broken."""

    def __init__(self, folder: Path, call_timeout: float = 100.0) -> None:
        self.shared_state = SharedState(f"{folder}/shared_state")
        self.event_log = EventLog(f"{folder}/event_log")
        self._reader = Reader(f"{folder}/event_log")
        self.watch = Watch(self.event_log, str(folder), call_timeout, Counter())
        self.checker = CallChecker(
            self.watch, self.event_log, self.shared_state, (KeyboardInterrupt,)
        )

    def broken_rules(self) -> list[str]:
        return [event["rule"] for event in self._reader.events() if event["kind"] == "violation"]

    def check(self, get: Callable[[], str], call: CallSpec = CALL) -> list[str]:
        """Call a credential that returns or raises what ``get`` does; return the broken rules."""
        self.checker.call_sync(FakeCredential(get), call, info=False)
        return self.broken_rules()


@pytest.fixture
def harness(tmp_path: Path) -> Harness:
    return Harness(tmp_path)


def raising(error: BaseException) -> Callable[[], str]:
    def get() -> str:
        raise error

    return get


def test_valid_token_breaks_no_rule(harness: Harness) -> None:
    assert harness.check(lambda: encode(valid_token())) == []
    assert harness.watch.counts["result: a token"] == 1


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"expires_at": 0.0}, tokens.EXPIRED),
        ({"identity": "another identity"}, tokens.WRONG_TOKEN),
        ({"resource": RESOURCES[1]}, tokens.WRONG_TOKEN),
        ({"invalid": "a line feed"}, tokens.INVALID),
    ],
)
def test_wrong_token_is_a_violation(harness: Harness, changes: dict[str, Any], rule: str) -> None:
    assert harness.check(lambda: encode(valid_token(**changes))) == [rule]


def test_damaged_token_is_a_violation(harness: Harness) -> None:
    assert harness.check(lambda: encode(valid_token())[:-1]) == [tokens.INVALID]


def test_revoked_token_is_a_violation_after_a_challenge(harness: Harness) -> None:
    issued = valid_token()
    harness.shared_state.revoke(RESOURCE)
    challenge = harness.checker.challenge(CALL, issued)
    assert challenge is not None
    assert challenge.claims is not None
    assert harness.check(lambda: encode(issued), challenge) == [tokens.REVOKED]
    assert harness.checker.challenge(CALL, valid_token(issued_at=monotonic())) is None


@pytest.mark.parametrize("error", [RuntimeError(), RecursionError(), KeyboardInterrupt()])
def test_undocumented_exception_is_a_violation(harness: Harness, error: BaseException) -> None:
    assert harness.check(raising(error)) == [UNDOCUMENTED]


def test_interrupt_is_raised_on_the_main_thread(harness: Harness) -> None:
    with pytest.raises(KeyboardInterrupt):
        harness.checker.call_sync(
            FakeCredential(raising(KeyboardInterrupt())), CALL, info=False, main=True
        )
    assert harness.broken_rules() == []


def test_documented_exception_is_counted(harness: Harness) -> None:
    assert harness.check(raising(TokenRefusedError("no"))) == []
    assert harness.watch.counts["result: TokenRefusedError"] == 1


def test_token_in_a_message_is_a_violation_and_not_logged(harness: Harness, tmp_path: Path) -> None:
    token = encode(valid_token())
    assert harness.check(raising(TokenRefusedError(f"no {token}"))) == [LEAKED]
    assert harness.check(raising(RuntimeError(token))) == [UNDOCUMENTED]
    assert token[:20] not in (tmp_path / "event_log").read_text()


def test_hung_call_is_reported_once_with_all_stacks(tmp_path: Path) -> None:
    harness = Harness(tmp_path, call_timeout=5.0)
    harness.watch.begin("a call", [0.0])
    harness.watch.begin("a call on a loop that the soak stopped", [float("inf")])
    harness.watch.active = 5.1
    for _ in range(2):
        harness.watch.report_hung_calls()
    assert harness.broken_rules() == [HUNG]
    [stacks] = tmp_path.glob("stacks-*.txt")
    assert "test_soak.py" in stacks.read_text()


def test_async_calls_are_checked(harness: Harness) -> None:
    class AsyncCredential:
        async def get_token(self, *scopes: str, claims: str | None = None) -> AccessToken:
            return AccessToken(encode(valid_token(expires_at=0.0)), 0)

    asyncio.run(harness.checker.call_async(AsyncCredential(), CALL, info=False, blocked=[0.0]))
    assert harness.broken_rules() == [tokens.EXPIRED]


def test_lasting_growth_is_a_violation(harness: Harness) -> None:
    leaking = [Sample(10, 20, 50 + number / 6) for number in range(600)]
    growth = measure_growth(leaking)
    assert growth is not None
    assert excesses(*growth) == ["memory: 80 to 130"]
    noisy = measure_growth([Sample(10 + number % 5, 20, 50) for number in range(600)])
    assert noisy is not None
    assert excesses(*noisy) == []
    # Delayed fetches of one outage, one after another, do not count as growth.
    delayed = [Sample(30 if 350 < second < 540 else 10, 20, 50) for second in range(600)]
    growth = measure_growth(delayed)
    assert growth is not None
    assert excesses(*growth) == []
    assert measure_growth(leaking[:200]) is None


@pytest.mark.parametrize("rule", RULES)
def test_each_violation_fails_the_soak(rule: str) -> None:
    report = Report()
    assert not report.failed
    report.add_violation(rule, "details")
    assert report.failed
    assert f"1  {rule}" in report.text()


def test_short_soak_runs_to_its_end(tmp_path: Path) -> None:
    settings = {"SOAK_SECONDS": "5", "SOAK_WORKERS": "2", "SOAK_SEED": "1"}
    environment = {**os.environ, **settings, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-m", "soak"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    # Five seconds are too short to require zeros; `make soak` does.
    assert done.returncode in (0, 1), done.stderr
    assert "result: a token" in done.stdout, done.stderr
    assert "Must be zero:" in done.stdout, done.stderr
