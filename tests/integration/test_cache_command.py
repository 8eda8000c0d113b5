"""``imds-identity cache``, and where processes look for what they share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from imds_identity import ManagedIdentityCredential
from imds_identity._core.failure import Refused
from imds_identity._platform.clock import SYSTEM_CLOCK
from imds_identity._shared_cache.directory import Directory
from imds_identity._shared_cache.record import Record
from imds_identity._shared_cache.store import SharedCache
from imds_identity.cli import main
from support import KEY, token_now

if TYPE_CHECKING:
    from imds_identity.emulator import Emulator


HOSTILE = "\x1b]0;you\x07\x1b[2J\r\u202egnp\x9b31m"


@pytest.fixture
def machine(tmp_path: Path) -> SharedCache:
    return SharedCache(Directory.at(str(tmp_path / "cache")), SYSTEM_CLOCK)


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["cache", *arguments]) == 0
    return capsys.readouterr().out


def test_what_is_shown_is_no_command_to_a_terminal(
    machine: SharedCache, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = KEY._replace(resource=HOSTILE, identity=HOSTILE, endpoint=HOSTILE, source=HOSTILE)
    machine.write(Record(hostile, token_now(SYSTEM_CLOCK)))
    machine.write(Record(KEY, failure=Refused("no", "Do.", status=500)))
    path = Path(machine.directory.path) / f"{machine.name_of(KEY)}.json"
    document = json.loads(path.read_text())
    document["failure"]["problem"] = document["failure"]["request_summary"] = HOSTILE
    path.write_text(json.dumps(document))
    lines = shown(capsys, "show", "--directory", machine.directory.path).split("\n")
    assert lines[0] == f"2 in {machine.directory.path}"
    assert all(line.isprintable() for line in lines)
    assert any("no token" in line for line in lines)


def test_a_terminal_of_few_letters_is_shown_all(machine: SharedCache) -> None:
    machine.write(Record(KEY._replace(resource="https://größe"), token_now(SYSTEM_CLOCK)))
    command = [sys.executable, "-m", "imds_identity", "cache", "show", "--directory"]
    done = subprocess.run(
        [*command, machine.directory.path],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "https://gr\\xf6\\xdfe" in done.stdout


def test_clear_leaves_what_is_foreign(
    machine: SharedCache, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.write(Record(KEY, token_now(SYSTEM_CLOCK)))
    foreign = ["azureProfile.json", "clouds.config", "msal_token_cache.json", "half.new"]
    for name in foreign:
        (Path(machine.directory.path) / name).touch()
    assert shown(capsys, "clear", "--directory", machine.directory.path).startswith("1 removed")
    assert sorted(os.listdir(machine.directory.path)) == sorted(foreign)


def test_a_directory_that_is_not_there_is_not_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cache", "show", "--directory", str(tmp_path / "typo")]) == 2
    assert "is not a directory" in capsys.readouterr().err
    assert not (tmp_path / "typo").exists()


def test_a_directory_below_the_working_one_may_be_named(
    machine: SharedCache, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.write(Record(KEY, token_now(SYSTEM_CLOCK)))
    monkeypatch.chdir(Path(machine.directory.path).parent)
    assert shown(capsys, "show", "--directory", "cache").startswith("1 in ")


@pytest.mark.parametrize("said", ["OFF", "False", "0", "No", "NONE"])
def test_whatever_means_off_writes_nothing(
    imds_emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMDS_IDENTITY_CACHE", said)
    ManagedIdentityCredential().get_token("https://vault.azure.net/.default")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("said", ["cache", "~/cache", "oof"])
def test_a_setting_that_is_no_absolute_path_is_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    monkeypatch.setenv("IMDS_IDENTITY_CACHE", said)
    with pytest.raises(ValueError, match=r"IMDS_IDENTITY_CACHE is .* absolute path"):
        ManagedIdentityCredential()
    with pytest.raises(ValueError, match=r"cache is .* absolute path"):
        ManagedIdentityCredential(cache=Path(said))


def test_strange_mounts_disturb_no_construction(
    imds_emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from imds_identity._shared_cache import mounts as memory

    (tmp_path / "mounts").write_bytes(b"1 2 x:y\x85\n- - -\n\xff\n" * 3000)
    reads: list[bytes] = []
    read = memory.parse_mounts

    def counted(table: bytes) -> memory.Mounts:
        reads.append(table)
        return read(table)

    monkeypatch.setattr(memory, "_MOUNTS", str(tmp_path / "mounts"))
    monkeypatch.setattr(memory, "parse_mounts", counted)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("IMDS_IDENTITY_CACHE", "on")
    for _ in range(100):
        ManagedIdentityCredential()
    assert reads == []  # that is looked up when it is needed
