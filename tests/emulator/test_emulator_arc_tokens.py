from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING, Any

import pytest

from emulator.support import claims_of, key_file
from imds_identity.emulator import (
    DEFAULT_SYSTEM_ASSIGNED,
    DEFAULT_USER_ASSIGNED,
    ManualClock,
    SystemAssigned,
)

if TYPE_CHECKING:
    from pathlib import Path

    from emulator.support import Ask, Start


def test_the_challenge_names_a_key_file_in_the_tokens_directory(started: Start, ask: Ask) -> None:
    emulator = started("arc")
    challenge = ask(emulator, api_version="2019-11-01")
    assert challenge.status_code == 401
    file = key_file(challenge)
    assert file.parent == emulator.tokens_directory
    assert file.suffix == ".key"
    assert 0 < file.stat().st_size <= 4096


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_a_key_file_is_for_its_owner_only(started: Start, ask: Ask) -> None:
    emulator = started("arc")
    mode = key_file(ask(emulator)).stat().st_mode
    assert stat.S_IMODE(mode) == 0o600
    assert emulator.tokens_directory is not None
    assert stat.S_IMODE(emulator.tokens_directory.stat().st_mode) == 0o700


def test_the_secret_gets_a_token_of_the_server_s_identity(started: Start, ask_arc: Ask) -> None:
    emulator = started("arc")
    claims = claims_of(ask_arc(emulator))
    assert claims["appid"] == DEFAULT_SYSTEM_ASSIGNED.client_id
    assert "/Microsoft.HybridCompute/machines/" in claims["xms_mirid"]
    assert [record.status for record in emulator.token_requests] == [401, 200]


def test_a_secret_opens_one_request_and_its_file_goes(started: Start, ask: Ask) -> None:
    emulator = started("arc")
    file = key_file(ask(emulator))
    headers = {"Authorization": f"Basic {file.read_text()}"}
    assert ask(emulator, headers=headers).status_code == 200
    assert not file.exists()
    assert ask(emulator, headers=headers).status_code == 401


def test_a_secret_expires_and_its_file_goes_with_the_next_challenge(
    started: Start, ask: Ask, clock: ManualClock
) -> None:
    emulator = started("arc", clock=clock, arc_secret_lifetime=30)
    file = key_file(ask(emulator))
    secret = file.read_text()
    clock.advance(30)
    answer = ask(emulator, headers={"Authorization": f"Basic {secret}"})
    assert answer.status_code == 401
    assert key_file(answer).exists()
    assert not file.exists()


@pytest.mark.parametrize("value", ["Basic", "Basic wrong", "Bearer {}", "{}"])
def test_nothing_but_the_secret_opens(started: Start, ask: Ask, value: Any) -> None:
    emulator = started("arc")
    secret = key_file(ask(emulator)).read_text()
    headers = {"Authorization": value.format(secret)}
    assert ask(emulator, headers=headers).status_code == 401


def test_unanswered_challenges_do_not_pile_up(started: Start, ask: Ask) -> None:
    emulator = started("arc")
    for _ in range(70):
        ask(emulator)
    assert len(os.listdir(emulator.tokens_directory)) == 64


def test_a_current_agent_echoes_the_selector(started: Start, ask_arc: Ask) -> None:
    answer = ask_arc(started("arc"), client_id=DEFAULT_USER_ASSIGNED.client_id)
    assert answer.json()["client_id"] == DEFAULT_USER_ASSIGNED.client_id
    assert claims_of(answer)["appid"] == DEFAULT_USER_ASSIGNED.client_id


def test_an_older_agent_ignores_the_selector_and_echoes_nothing(
    started: Start, ask_arc: Ask
) -> None:
    answer = ask_arc(started("arc", arc_agent="older"), client_id=DEFAULT_USER_ASSIGNED.client_id)
    assert claims_of(answer)["appid"] == DEFAULT_SYSTEM_ASSIGNED.client_id
    assert "client_id" not in answer.json()


def test_an_identity_that_is_not_there_gets_400_behind_the_challenge(
    started: Start, ask_arc: Ask
) -> None:
    answer = ask_arc(started("arc", identities=[SystemAssigned()]), client_id="nobody")
    assert answer.status_code == 400


def test_a_given_directory_is_used_and_only_our_files_go(
    started: Start, ask: Ask, tmp_path: Path
) -> None:
    directory = tmp_path / "tokens"
    directory.mkdir()
    (directory / "theirs").write_text("stays")
    emulator = started("arc", tokens_directory=directory)
    assert key_file(ask(emulator)).parent == directory.resolve()
    emulator.stop()
    assert os.listdir(directory) == ["theirs"]


def test_a_vm_has_no_tokens_directory(started: Start) -> None:
    assert started().tokens_directory is None
