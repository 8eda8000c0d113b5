"""That the soak can fail: each fault it looks for is found where it is planted."""

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
from soak.calls import FOREIGN, SHOWN, Ask, Calls
from soak.event_log import EventLog, Reader
from soak.growth import Sample, excess, grown
from soak.shared_state import RESOURCES, SharedState, steady
from soak.table import ZEROS, Table
from soak.tokens import IssuedToken, minted
from soak.watch import HUNG, Watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RESOURCE = RESOURCES[0]
ASK = Ask("sync", RESOURCE, "somebody")


def sound(**changes: Any) -> IssuedToken:
    now = steady()
    return IssuedToken(RESOURCE, "somebody", now - 10, now + 60, 1)._replace(**changes)


class Planted:
    """A credential that does what it is told to."""

    def __init__(self, answer: Callable[[], str]) -> None:
        self._answer = answer

    def get_token(self, *scopes: str, claims: str | None = None) -> AccessToken:
        return AccessToken(self._answer(), 0)


class Court:
    """What judges calls, and what it has found."""

    def __init__(self, folder: Path, patience: float = 100.0) -> None:
        self.shared_state = SharedState(f"{folder}/shared_state")
        self.event_log = EventLog(f"{folder}/event_log")
        self._reader = Reader(f"{folder}/event_log")
        self.watch = Watch(self.event_log, str(folder), patience, Counter())
        self.calls = Calls(self.watch, self.event_log, self.shared_state, (KeyboardInterrupt,))

    def broken(self) -> list[str]:
        return [line["rule"] for line in self._reader.lines() if line["kind"] == "broken"]

    def asked(self, answer: Callable[[], str], ask: Ask = ASK) -> list[str]:
        self.calls.sync(Planted(answer), ask, info=False)
        return self.broken()


@pytest.fixture
def court(tmp_path: Path) -> Court:
    return Court(tmp_path)


def raising(error: BaseException) -> Callable[[], str]:
    def raises() -> str:
        raise error

    return raises


def test_a_sound_token_breaks_no_rule(court: Court) -> None:
    assert court.asked(lambda: minted(sound())) == []
    assert court.watch.counts["ended: with a token"] == 1


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"end": 0.0}, tokens.EXPIRED),
        ({"who": "somebody else"}, tokens.ANOTHERS),
        ({"resource": RESOURCES[1]}, tokens.ANOTHERS),
        ({"refusable": "a line feed"}, tokens.REFUSABLE),
    ],
)
def test_a_token_that_should_not_have_been_served_is_found(
    court: Court, changes: dict[str, Any], rule: str
) -> None:
    assert court.asked(lambda: minted(sound(**changes))) == [rule]


def test_a_damaged_token_is_found(court: Court) -> None:
    assert court.asked(lambda: minted(sound())[:-1]) == [tokens.REFUSABLE]


def test_a_revoked_token_is_challenged_and_not_to_be_given_again(court: Court) -> None:
    facts = sound()
    court.shared_state.revoke(RESOURCE)
    challenge = court.calls.challenge(ASK, facts)
    assert challenge is not None
    assert challenge.claims is not None
    assert court.asked(lambda: minted(facts), challenge) == [tokens.REVOKED]
    assert court.calls.challenge(ASK, sound(minted=steady())) is None


@pytest.mark.parametrize("error", [RuntimeError(), RecursionError(), KeyboardInterrupt()])
def test_an_undocumented_exception_is_found(court: Court, error: BaseException) -> None:
    assert court.asked(raising(error)) == [FOREIGN]


def test_what_a_signal_raises_is_the_main_threads_own(court: Court) -> None:
    with pytest.raises(KeyboardInterrupt):
        court.calls.sync(Planted(raising(KeyboardInterrupt())), ASK, info=False, main=True)
    assert court.broken() == []


def test_a_documented_exception_is_counted(court: Court) -> None:
    assert court.asked(raising(TokenRefusedError("no"))) == []
    assert court.watch.counts["ended: TokenRefusedError"] == 1


def test_a_message_with_a_token_is_found_and_not_repeated(court: Court, tmp_path: Path) -> None:
    token = minted(sound())
    assert court.asked(raising(TokenRefusedError(f"no {token}"))) == [SHOWN]
    assert court.asked(raising(RuntimeError(token))) == [FOREIGN]
    assert token[:20] not in (tmp_path / "event_log").read_text()


def test_a_call_that_hangs_is_told_once_with_all_stacks(tmp_path: Path) -> None:
    court = Court(tmp_path, patience=5.0)
    court.watch.begin("a call", [0.0])
    court.watch.begin("one whose loop the soak has stopped", [float("inf")])
    court.watch.active = 5.1
    for _ in range(2):
        court.watch.look()
    assert court.broken() == [HUNG]
    [stacks] = tmp_path.glob("stacks-*.txt")
    assert "test_soak.py" in stacks.read_text()


def test_a_task_is_judged_as_a_thread_is(court: Court) -> None:
    class Async:
        async def get_token(self, *scopes: str, claims: str | None = None) -> AccessToken:
            return AccessToken(minted(sound(end=0.0)), 0)

    asyncio.run(court.calls.asynchronous(Async(), ASK, info=False, held_up=[0.0]))
    assert court.broken() == [tokens.EXPIRED]


def test_growth_is_what_lasts(court: Court) -> None:
    steps = [Sample(10, 20, 50 + number / 6) for number in range(600)]
    seen = grown(steps)
    assert seen is not None
    assert excess(*seen) == ["memory: 80 to 130"]
    noisy = grown([Sample(10 + number % 5, 20, 50) for number in range(600)])
    assert noisy is not None
    assert excess(*noisy) == []
    # Fetches of one outage, of which the last begins when the first has ended, are no growth.
    held_up = [Sample(30 if 350 < second < 540 else 10, 20, 50) for second in range(600)]
    seen = grown(held_up)
    assert seen is not None
    assert excess(*seen) == []
    assert grown(steps[:200]) is None


@pytest.mark.parametrize("rule", ZEROS)
def test_any_rule_that_is_broken_fails_the_soak(rule: str) -> None:
    table = Table()
    assert not table.failed
    table.broke(rule, "how")
    assert table.failed
    assert f"1  {rule}" in table.text()


def test_a_short_soak_runs_to_its_end(tmp_path: Path) -> None:
    settings = {"SOAK_SECONDS": "5", "SOAK_WORKERS": "2", "SOAK_SEED": "1"}
    environment = {**os.environ, **settings, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-m", "soak"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    # Whether what it found is good is for the ten minutes of `make soak` to say.
    assert done.returncode in (0, 1), done.stderr
    assert "ended: with a token" in done.stdout, done.stderr
    assert "Must be zero:" in done.stdout, done.stderr
