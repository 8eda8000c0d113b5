"""The command ``imds-identity cache``, and settings of the shared cache."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from imds_identity import ManagedIdentityCredential
from imds_identity._core.failure import Refused
from imds_identity._platform.clock import SYSTEM_CLOCK
from imds_identity._shared_cache.directory import Directory
from imds_identity._shared_cache.location import shared_cache_for
from imds_identity._shared_cache.record import Record
from imds_identity._shared_cache.store import SharedCache
from imds_identity.cli import main
from support import KEY, new_token

if TYPE_CHECKING:
    from imds_identity.emulator import Emulator


HOSTILE = "\x1b]0;you\x07\x1b[2J\r\u202egnp\x9b31m"


@pytest.fixture
def shared_cache(tmp_path: Path) -> SharedCache:
    return SharedCache(Directory.at(str(tmp_path / "cache")), SYSTEM_CLOCK)


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["cache", *arguments]) == 0
    return capsys.readouterr().out


def test_terminal_control_sequences_are_removed(
    shared_cache: SharedCache, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = KEY._replace(resource=HOSTILE, identity=HOSTILE, endpoint=HOSTILE, source=HOSTILE)
    shared_cache.write(Record(hostile, new_token(SYSTEM_CLOCK)))
    shared_cache.write(Record(KEY, failure=Refused("no", "Do.", status=500)))
    path = Path(shared_cache.directory.path) / f"{shared_cache.name_of(KEY)}.json"
    document = json.loads(path.read_text())
    document["failure"]["problem"] = document["failure"]["request_summary"] = HOSTILE
    path.write_text(json.dumps(document))
    lines = shown(capsys, "show", "--directory", shared_cache.directory.path).split("\n")
    assert lines[0] == f"2 in {shared_cache.directory.path}"
    assert all(line.isprintable() for line in lines)
    assert any("no token" in line for line in lines)


def test_characters_that_the_terminal_cannot_show_are_escaped(shared_cache: SharedCache) -> None:
    shared_cache.write(Record(KEY._replace(resource="https://größe"), new_token(SYSTEM_CLOCK)))
    command = [sys.executable, "-m", "imds_identity", "cache", "show", "--directory"]
    done = subprocess.run(
        [*command, shared_cache.directory.path],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "https://gr\\xf6\\xdfe" in done.stdout


def test_clear_keeps_files_of_other_programs(
    shared_cache: SharedCache, capsys: pytest.CaptureFixture[str]
) -> None:
    shared_cache.write(Record(KEY, new_token(SYSTEM_CLOCK)))
    foreign = ["azureProfile.json", "clouds.config", "msal_token_cache.json", "half.new"]
    for name in foreign:
        (Path(shared_cache.directory.path) / name).touch()
    assert shown(capsys, "clear", "--directory", shared_cache.directory.path).startswith(
        "1 removed"
    )
    assert sorted(os.listdir(shared_cache.directory.path)) == sorted(foreign)


def test_missing_directory_is_not_created(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cache", "show", "--directory", str(tmp_path / "typo")]) == 2
    assert "is not a directory" in capsys.readouterr().err
    assert not (tmp_path / "typo").exists()


def test_directory_that_hangs_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "on-nfs").mkdir(mode=0o700)
    shared_cache, hangs = shared_cache_for(tmp_path / "on-nfs"), threading.Event()
    assert shared_cache is not None
    assert shared_cache.directory._watchdog is not None
    monkeypatch.setattr(shared_cache.directory._watchdog, "_seconds", 0.1)
    monkeypatch.setattr(os.path, "isdir", lambda _: hangs.wait(30))
    assert main(["cache", "show", "--directory", str(tmp_path / "on-nfs")]) == 1
    hangs.set()
    assert "the shared token cache cannot be used" in capsys.readouterr().err


def test_directory_may_be_a_relative_path(
    shared_cache: SharedCache, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shared_cache.write(Record(KEY, new_token(SYSTEM_CLOCK)))
    monkeypatch.chdir(Path(shared_cache.directory.path).parent)
    assert shown(capsys, "show", "--directory", "cache").startswith("1 in ")


def test_cache_that_is_off_is_reported_without_an_error(run_cli: Any) -> None:
    status, out, err = run_cli("cache", "show")
    assert (status, err) == (0, "")
    assert "the shared token cache is off: unset IMDS_IDENTITY_CACHE" in out
    status, out, _ = run_cli("cache", "show", "-o", "json")
    assert (status, json.loads(out)) == (0, {"directory": None, "entries": []})


def test_entries_are_listed_as_json(shared_cache: SharedCache, run_cli: Any) -> None:
    path = shared_cache.directory.path
    shared_cache.write(Record(KEY, new_token(SYSTEM_CLOCK, "s3cret")))
    status, out, _ = run_cli("cache", "show", "--directory", path, "-o", "json")
    assert (status, json.loads(out)["directory"]) == (0, path)
    assert {each["resource"] for each in json.loads(out)["entries"]} == {KEY.resource}
    assert "s3cret" not in out


@pytest.mark.parametrize("value", ["OFF", "False", "0", "No", "NONE"])
def test_off_values_write_no_file(
    imds_emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMDS_IDENTITY_CACHE", value)
    ManagedIdentityCredential().get_token("https://vault.azure.net/.default")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("value", ["cache", "~/cache", "oof"])
def test_setting_that_is_not_an_absolute_path_is_refused(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("IMDS_IDENTITY_CACHE", value)
    with pytest.raises(ValueError, match=r"IMDS_IDENTITY_CACHE is .* absolute path"):
        ManagedIdentityCredential()
    with pytest.raises(ValueError, match=r"cache is .* absolute path"):
        ManagedIdentityCredential(cache=Path(value))


def test_constructor_does_not_read_mounts(
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
    assert reads == []  # they are read when the cache is first used
