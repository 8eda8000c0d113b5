"""``imds-identity serve``: where it listens, for whom, and how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from imds_identity.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imds_identity.emulator import Emulator

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")

SERVE = [sys.executable, "-m", "imds_identity", "serve"]
VAULT = "https://vault.azure.net"
SECRET = "0123456789abcdef" * 4
ASKED = f"?api-version=2019-08-01&resource={VAULT}"


@contextlib.contextmanager
def serving(*flags: str, **more: Any) -> Iterator[str]:
    """A server that is ready; where it listens. It ends well when asked to."""
    process = subprocess.Popen([*SERVE, *flags], stderr=subprocess.PIPE, text=True, **more)
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        assert "listening at " in line, line
        yield line.rpartition(" ")[2].strip()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert "Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.communicate()


def variables(path: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in path.read_text().splitlines())


def ask(url: str, **headers: str) -> dict[str, Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=named), timeout=30
        ) as answer:
            said: dict[str, Any] = json.load(answer)
            return said
    except urllib.error.HTTPError as error:
        error.close()  # it is the answer, too
        raise


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "a-secret"
    path.touch(0o600)
    path.write_text(f"{SECRET}\n")
    return path


def test_clients_learn_of_it_from_a_file(imds_emulator: Emulator, tmp_path: Path) -> None:
    path = tmp_path / "env"
    with serving("--env-file", str(path)) as url:
        assert path.stat().st_mode & 0o777 == 0o600
        given = variables(path)
        assert given["IDENTITY_ENDPOINT"] == f"{url}/msi/token"
        said = ask(given["IDENTITY_ENDPOINT"] + ASKED, X_IDENTITY_HEADER=given["IDENTITY_HEADER"])
        assert said["resource"] == VAULT
        with pytest.raises(urllib.error.HTTPError, match="401"):
            ask(given["IDENTITY_ENDPOINT"] + ASKED)
    assert not path.exists()


def test_imds_is_spoken_for_who_knows_nothing_else(imds_emulator: Emulator, tmp_path: Path) -> None:
    path = tmp_path / "env"
    with serving("--env-file", str(path), "--protocol", "imds") as url:
        given = variables(path)
        assert set(given) == {
            "ARM_MSI_ENDPOINT", "AZURE_MSI_ENDPOINT", "AZURE_POD_IDENTITY_AUTHORITY_HOST",
        }  # fmt: skip
        asked = f"?api-version=2018-02-01&resource={VAULT}"
        said = ask(given["ARM_MSI_ENDPOINT"] + asked, Metadata="true")
        assert said["token_type"] == "Bearer"
        for wrong in (f"{url}/metadata/identity/oauth2/token", f"{url}/msi/token"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                ask(wrong + asked, Metadata="true")


def test_the_secret_may_be_given(imds_emulator: Emulator, secret_file: Path) -> None:
    with serving("--secret-file", str(secret_file)) as url:
        assert ask(f"{url}/msi/token{ASKED}", X_IDENTITY_HEADER=SECRET)["resource"] == VAULT
        cmdlines = _command_lines()
        assert not any(SECRET.encode() in line for line in cmdlines)


def _command_lines() -> list[bytes]:
    """Those of all processes that live long enough to be looked at."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes())
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="SO_PEERCRED")
@pytest.mark.parametrize(("uids", "status"), [([], b"200"), (["--allow-uid", "12345"], b"403")])
def test_over_a_unix_socket_the_uid_counts(
    imds_emulator: Emulator, tmp_path: Path, uids: list[str], status: bytes
) -> None:
    path = tmp_path / "socket"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    with serving("--unix", str(path), *uids) as where, socket.socket(socket.AF_UNIX) as client:
        assert where == str(path)
        assert path.stat().st_mode & 0o777 == (0o666 if uids else 0o600)
        client.connect(str(path))
        client.sendall(f"GET /msi/token{ASKED} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert client.recv(12) == b"HTTP/1.1 " + status
        second = subprocess.run(
            [*SERVE, "--unix", str(path)], capture_output=True, check=False, timeout=60
        )
        assert b"another process listens there" in second.stderr
    assert not path.exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "clients need a secret"),
        (["--bind", "0.0.0.0"], "--allow-every-interface"),
        (["--bind", "::"], "--allow-every-interface"),
        (["--bind", "0.0.0.0", "--allow-every-interface"], "--allow-resource"),
        (["--bind", "192.0.2.1", "--allow-resource", VAULT], "--secret-file"),
        (["--bind", "192.0.2.1", "--secret-file", "x"], "--allow-resource"),
        (["--bind", "example.com"], "IP address"),
        (["--bind", "127.1"], "IP address"),
        (["--port", "65536"], "--port"),
        (["--protocol", "oauth"], "--protocol"),
        (["--env-file", "x", "--client-id", " "], "--client-id"),
        (["--env-file", "x", "--allow-resource", ""], "resource"),
    ],
)
def test_what_is_dangerous_or_nonsense_is_refused(
    flags: list[str], words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    try:
        status = main(["serve", *flags])
    except SystemExit as done:
        status = int(done.code or 0)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert status == 2
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        (SECRET, 0o644, b"is accessible to other users"),
        (SECRET, 0o640, b"is accessible to other users"),
        ("short", 0o600, b"at least 32"),
        ("with/slash" * 10, 0o600, b"at least 32"),
        ("x" * 100_000, 0o600, b"larger than"),
    ],
)
def test_a_bad_secret_file_is_refused(
    secret_file: Path, content: str, mode: int, words: bytes
) -> None:
    secret_file.write_text(content)
    secret_file.chmod(mode)
    done = subprocess.run(
        [*SERVE, "--secret-file", str(secret_file)], capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert words in done.stderr
    assert content[:9].encode() not in done.stderr


def test_elsewhere_it_speaks_for_one_identity(imds_emulator: Emulator, secret_file: Path) -> None:
    flags = ("--bind", "0.0.0.0", "--allow-every-interface", "--allow-resource", VAULT)
    with serving(*flags, "--secret-file", str(secret_file)) as where:
        url = f"http://127.0.0.1:{where.rpartition(':')[2]}/msi/token{ASKED}"
        assert ask(url, X_IDENTITY_HEADER=SECRET)["resource"] == VAULT
        with pytest.raises(urllib.error.HTTPError, match="403"):
            ask(f"{url}&client_id=another", X_IDENTITY_HEADER=SECRET)


SYSTEMD = """
import os, socket, sys
listener = socket.create_server(("127.0.0.1", 0))
os.dup2(listener.fileno(), 3)
os.environ["LISTEN_PID"], os.environ["LISTEN_FDS"] = str(os.getpid()), "1"
os.execv(sys.executable, [sys.executable, "-m", "imds_identity", "serve", *sys.argv[1:]])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="systemd")
def test_a_service_manager_opens_the_socket_and_is_told(
    imds_emulator: Emulator, tmp_path: Path, secret_file: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        process = subprocess.Popen(
            [sys.executable, "-c", SYSTEMD, "--secret-file", str(secret_file)],
            stderr=subprocess.PIPE, text=True, pass_fds=(3,) if _is_open(3) else (),
            env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")},
        )  # fmt: skip
        try:
            assert manager.recv(100) == b"READY=1"
            assert process.stderr is not None
            url = process.stderr.readline().rpartition(" ")[2].strip()
            assert ask(f"{url}/msi/token{ASKED}", X_IDENTITY_HEADER=SECRET)["resource"] == VAULT
            process.terminate()
            assert manager.recv(100) == b"STOPPING=1"
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.communicate()


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
