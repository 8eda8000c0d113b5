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
    Emulator,
    ManualClock,
    SystemAssigned,
)

if TYPE_CHECKING:
    from pathlib import Path

    from emulator.support import Send, Start


def test_challenge_names_a_key_file_in_the_tokens_directory(
    start_emulator: Start, request_token: Send
) -> None:
    emulator = start_emulator("arc")
    challenge = request_token(emulator, api_version="2019-11-01")
    assert challenge.status_code == 401
    file = key_file(challenge)
    assert file.parent == emulator.tokens_directory
    assert file.suffix == ".key"
    assert 0 < file.stat().st_size <= 4096


@pytest.mark.parametrize("version", ["", "2018-02-01", "2025-04-07"])
def test_agent_lists_its_versions_in_words(
    start_emulator: Start, request_token: Send, version: str
) -> None:
    response = request_token(start_emulator("arc"), api_version=version)
    assert response.status_code == 400
    assert response.json() == {
        "error": "invalid_request",
        "error_description": "The api-version not specified. Supported are 2021-02-01 2020-06-01 "
        "2019-11-01 2019-08-15",
    }


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_group_can_read_key_files_if_asked(
    start_emulator: Start, request_token: Send, tmp_path: Path
) -> None:
    import grp

    group = os.getgroups()[-1] if os.getgroups() else os.getgid()
    name = grp.getgrgid(group).gr_name
    for directory in (None, tmp_path / "new"):
        emulator = start_emulator("arc", tokens_group=name, tokens_directory=directory)
        file = key_file(request_token(emulator))
        assert (stat.S_IMODE(file.stat().st_mode), file.stat().st_gid) == (0o640, group)
        parent = file.parent.stat()
        assert (stat.S_IMODE(parent.st_mode), parent.st_gid) == (0o750, group)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_mode_of_an_existing_tokens_directory_is_kept(
    start_emulator: Start, tmp_path: Path
) -> None:
    import grp

    tmp_path.chmod(0o711)
    start_emulator("arc", tokens_group=grp.getgrgid(os.getgid()).gr_name, tokens_directory=tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o711


def test_unknown_tokens_group_is_an_error() -> None:
    with pytest.raises(ValueError, match="tokens_group"):
        Emulator("arc", tokens_group="no such group")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_key_file_is_readable_by_its_owner_only(start_emulator: Start, request_token: Send) -> None:
    emulator = start_emulator("arc")
    mode = key_file(request_token(emulator)).stat().st_mode
    assert stat.S_IMODE(mode) == 0o600
    assert emulator.tokens_directory is not None
    assert stat.S_IMODE(emulator.tokens_directory.stat().st_mode) == 0o700


def test_secret_gets_a_token_of_the_server_s_identity(
    start_emulator: Start, request_arc_token: Send
) -> None:
    emulator = start_emulator("arc")
    claims = claims_of(request_arc_token(emulator))
    assert claims["appid"] == DEFAULT_SYSTEM_ASSIGNED.client_id
    assert "/Microsoft.HybridCompute/machines/" in claims["xms_mirid"]
    assert [record.status for record in emulator.token_requests] == [401, 200]


def test_secret_is_valid_once_and_its_file_is_removed(
    start_emulator: Start, request_token: Send
) -> None:
    emulator = start_emulator("arc")
    file = key_file(request_token(emulator))
    headers = {"Authorization": f"Basic {file.read_text()}"}
    assert request_token(emulator, headers=headers).status_code == 200
    assert not file.exists()
    assert request_token(emulator, headers=headers).status_code == 401


def test_expired_secret_is_rejected_and_its_file_removed(
    start_emulator: Start, request_token: Send, clock: ManualClock
) -> None:
    emulator = start_emulator("arc", clock=clock, arc_secret_lifetime=30)
    file = key_file(request_token(emulator))
    secret = file.read_text()
    clock.advance(30)
    response = request_token(emulator, headers={"Authorization": f"Basic {secret}"})
    assert response.status_code == 401
    assert key_file(response).exists()
    assert not file.exists()


@pytest.mark.parametrize("value", ["Basic", "Basic wrong", "Bearer {}", "{}"])
def test_only_the_secret_is_accepted(
    start_emulator: Start, request_token: Send, value: Any
) -> None:
    emulator = start_emulator("arc")
    secret = key_file(request_token(emulator)).read_text()
    headers = {"Authorization": value.format(secret)}
    assert request_token(emulator, headers=headers).status_code == 401


def test_number_of_key_files_is_limited(start_emulator: Start, request_token: Send) -> None:
    emulator = start_emulator("arc")
    for _ in range(70):
        request_token(emulator)
    assert len(os.listdir(emulator.tokens_directory)) == 64


def test_current_agent_echoes_the_selector(start_emulator: Start, request_arc_token: Send) -> None:
    response = request_arc_token(start_emulator("arc"), client_id=DEFAULT_USER_ASSIGNED.client_id)
    assert response.json()["client_id"] == DEFAULT_USER_ASSIGNED.client_id
    assert claims_of(response)["appid"] == DEFAULT_USER_ASSIGNED.client_id


def test_older_agent_ignores_the_selector(start_emulator: Start, request_arc_token: Send) -> None:
    response = request_arc_token(
        start_emulator("arc", arc_agent="older"), client_id=DEFAULT_USER_ASSIGNED.client_id
    )
    assert claims_of(response)["appid"] == DEFAULT_SYSTEM_ASSIGNED.client_id
    assert "client_id" not in response.json()


def test_unknown_identity_gets_404_after_the_challenge(
    start_emulator: Start, request_arc_token: Send
) -> None:
    response = request_arc_token(
        start_emulator("arc", identities=[SystemAssigned()]), client_id="unknown"
    )
    assert (response.status_code, response.json()["error"]) == (404, "identity_not_found")


def test_only_own_files_are_removed_from_the_tokens_directory(
    start_emulator: Start, request_token: Send, tmp_path: Path
) -> None:
    directory = tmp_path / "tokens"
    directory.mkdir()
    (directory / "theirs").write_text("stays")
    emulator = start_emulator("arc", tokens_directory=directory)
    assert key_file(request_token(emulator)).parent == directory.resolve()
    emulator.stop()
    assert os.listdir(directory) == ["theirs"]


def test_vm_has_no_tokens_directory(start_emulator: Start) -> None:
    assert start_emulator().tokens_directory is None
