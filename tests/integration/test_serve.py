"""``imds-identity serve``: listening, access and shutdown."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from imds_identity._endpoint.listen import first_unprivileged_port
from imds_identity._endpoint.secret import read_secret
from imds_identity._platform.environment import Environment
from imds_identity.cli import main, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from imds_identity.emulator import Emulator

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")

SERVE = [sys.executable, "-m", "imds_identity", "serve"]
VAULT = "https://vault.azure.net"
SECRET = "0123456789abcdef" * 4
QUERY = f"?api-version=2019-08-01&resource={VAULT}"


@contextlib.contextmanager
def serving(*flags: str, **more: Any) -> Iterator[str]:
    """Run a server; yield its URL; stop it and check that it exits cleanly."""
    process = subprocess.Popen([*SERVE, *flags], stderr=subprocess.PIPE, text=True, **more)
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        assert "listening on " in line, line
        yield line.rpartition(" ")[2].strip()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert "Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.communicate()


def variables(path: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in path.read_text().splitlines())


def request(url: str, **headers: str) -> dict[str, Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=named), timeout=30
        ) as response:
            body: dict[str, Any] = json.load(response)
            return body
    except urllib.error.HTTPError as error:
        error.close()
        raise


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "a-secret"
    path.touch(0o600)
    path.write_text(f"{SECRET}\n")
    return path


def test_env_file_has_the_variables_for_clients(imds_emulator: Emulator, tmp_path: Path) -> None:
    path = tmp_path / "env"
    with serving("--env-file", str(path)) as url:
        assert path.stat().st_mode & 0o777 == 0o600
        env = variables(path)
        assert env["IDENTITY_ENDPOINT"] == f"{url}/msi/token"
        body = request(env["IDENTITY_ENDPOINT"] + QUERY, X_IDENTITY_HEADER=env["IDENTITY_HEADER"])
        assert body["resource"] == VAULT
        with pytest.raises(urllib.error.HTTPError, match="401"):
            request(env["IDENTITY_ENDPOINT"] + QUERY)
    assert not path.exists()


def test_imds_protocol_is_available_under_a_secret_path(
    imds_emulator: Emulator, tmp_path: Path
) -> None:
    path = tmp_path / "env"
    with serving("--env-file", str(path), "--protocol", "imds") as url:
        env = variables(path)
        assert set(env) == {
            "ARM_MSI_ENDPOINT", "AZURE_MSI_ENDPOINT", "AZURE_POD_IDENTITY_AUTHORITY_HOST",
        }  # fmt: skip
        query = f"?api-version=2018-02-01&resource={VAULT}"
        body = request(env["ARM_MSI_ENDPOINT"] + query, Metadata="true")
        assert body["token_type"] == "Bearer"
        for wrong in (f"{url}/metadata/identity/oauth2/token", f"{url}/msi/token"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                request(wrong + query, Metadata="true")


def test_secret_can_be_configured(imds_emulator: Emulator, secret_file: Path) -> None:
    with serving("--secret-file", str(secret_file)) as url:
        assert request(f"{url}/msi/token{QUERY}", X_IDENTITY_HEADER=SECRET)["resource"] == VAULT
        cmdlines = _command_lines()
        assert not any(SECRET.encode() in line for line in cmdlines)


def test_killed_server_leaves_a_file_with_a_secret_of_no_use(
    imds_emulator: Emulator, tmp_path: Path
) -> None:
    path = tmp_path / "env"
    process = subprocess.Popen([*SERVE, "--env-file", str(path)], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert "listening on" in process.stderr.readline()
    process.kill()
    process.communicate()
    left = variables(path)
    with serving("--env-file", str(path)) as url:
        assert path.stat().st_mode & 0o777 == 0o600
        assert variables(path)["IDENTITY_HEADER"] != left["IDENTITY_HEADER"]
        with pytest.raises(urllib.error.HTTPError, match="401"):
            request(f"{url}/msi/token{QUERY}", X_IDENTITY_HEADER=left["IDENTITY_HEADER"])


@pytest.mark.parametrize(
    ("flags", "first_unprivileged", "warns"),
    [
        (["--port", "4042", "--secret-file", "FILE"], 1024, True),
        (["--port", "4042", "--secret-file", "FILE", "--bind", "::1"], 1024, True),
        (["--port", "80", "--secret-file", "FILE"], 0, True),
        (["--port", "80", "--secret-file", "FILE"], 1024, False),
        (["--port", "4042", "--env-file", "FILE"], 1024, False),
        (["--port", "0", "--secret-file", "FILE"], 0, False),
        (["--unix", "PATH", "--port", "4042", "--secret-file", "FILE"], 1024, False),
    ],
)
def test_port_on_which_any_user_could_receive_the_secret_causes_a_warning(
    flags: list[str], first_unprivileged: int, warns: bool, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(serve, "first_unprivileged_port", lambda: first_unprivileged)
    monkeypatch.setattr(serve, "listen_tcp", lambda address, port: socket.socket())
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    with contextlib.ExitStack() as stack:
        for listener in serve._listeners(parser.parse_args(flags), Environment({}), stack):
            listener.close()
    message = capsys.readouterr().err
    assert ("any user can listen on port" in message) is warns
    assert ("socket activation" in message) is warns


def test_lowest_unprivileged_port_is_known() -> None:
    assert 0 <= first_unprivileged_port() <= 65536


def _command_lines() -> list[bytes]:
    """Return the command lines of all processes."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes())
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="SO_PEERCRED")
@pytest.mark.parametrize(("uids", "status"), [([], b"200"), (["--allow-uid", "12345"], b"403")])
def test_unix_socket_authenticates_by_uid(
    imds_emulator: Emulator, tmp_path: Path, uids: list[str], status: bytes
) -> None:
    path = tmp_path / "socket"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    with serving("--unix", str(path), *uids) as location, socket.socket(socket.AF_UNIX) as client:
        assert location == str(path)
        assert path.stat().st_mode & 0o777 == (0o666 if uids else 0o600)
        client.connect(str(path))
        client.sendall(f"GET /msi/token{QUERY} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert client.recv(12) == b"HTTP/1.1 " + status
        second = subprocess.run(
            [*SERVE, "--unix", str(path)], capture_output=True, check=False, timeout=60
        )
        assert b"another process listens on this socket" in second.stderr
    assert not path.exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "clients need the secret"),
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
def test_dangerous_or_invalid_flags_are_refused(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path,
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
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [
        (SECRET, 0o644, b"is accessible to other users"),
        (SECRET, 0o640, b"is accessible to other users"),
        ("short", 0o600, b"at least 32"),
        ("with/slash" * 10, 0o600, b"at least 32"),
        ("x" * 100_000, 0o600, b"larger than"),
    ],
)
def test_unsafe_secret_file_is_refused(
    secret_file: Path, content: str, mode: int, message: bytes
) -> None:
    secret_file.write_text(content)
    secret_file.chmod(mode)
    done = subprocess.run(
        [*SERVE, "--secret-file", str(secret_file)], capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert content[:9].encode() not in done.stderr


def test_signals_end_a_server_whose_variables_have_no_reader(tmp_path: Path) -> None:
    """Opening a pipe waits for a reader, and `serve` blocks signals while it starts."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    signals = {signal.SIGTERM, signal.SIGINT}
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        for name, are_blocked in (("pipe", False), ("file", True)):
            with serve._interruptible(str(tmp_path / name)):
                blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
                assert (signals <= blocked) == are_blocked
            assert signals <= signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def test_pipe_without_a_secret_is_an_error() -> None:
    reader, writer = os.pipe()
    try:
        with pytest.raises(ValueError, match="is a pipe without content"):
            read_secret(f"/dev/fd/{reader}")
        os.write(writer, SECRET.encode())
        os.close(writer)
        assert read_secret(f"/dev/fd/{reader}").reveal() == SECRET
    finally:
        os.close(reader)


def test_remote_clients_cannot_choose_the_identity(
    imds_emulator: Emulator, secret_file: Path
) -> None:
    flags = ("--bind", "0.0.0.0", "--allow-every-interface", "--allow-resource", VAULT)
    with serving(*flags, "--secret-file", str(secret_file)) as location:
        url = f"http://127.0.0.1:{location.rpartition(':')[2]}/msi/token{QUERY}"
        assert request(url, X_IDENTITY_HEADER=SECRET)["resource"] == VAULT
        with pytest.raises(urllib.error.HTTPError, match="403"):
            request(f"{url}&client_id=another", X_IDENTITY_HEADER=SECRET)


SYSTEMD = """
import os, socket, sys
listener = socket.create_server(("127.0.0.1", 0))
os.dup2(listener.fileno(), 3)
os.environ["LISTEN_PID"], os.environ["LISTEN_FDS"] = str(os.getpid()), "1"
os.execv(sys.executable, [sys.executable, "-m", "imds_identity", "serve", *sys.argv[1:]])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="systemd")
def test_systemd_socket_activation_and_notification(
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
            assert request(f"{url}/msi/token{QUERY}", X_IDENTITY_HEADER=SECRET)["resource"] == VAULT
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


def test_token_file_exists_while_the_server_runs(imds_emulator: Emulator, tmp_path: Path) -> None:
    token, variables_file = tmp_path / "token", tmp_path / "env"
    flags = ["--env-file", str(variables_file), "--token-file", f"{token}={VAULT}"]
    with serving(*flags):
        assert token.read_text().count(".") == 2
        assert token.stat().st_mode & 0o777 == 0o600
    assert not token.exists()


def test_server_does_not_start_without_the_token_of_a_file(
    imds_emulator: Emulator, tmp_path: Path
) -> None:
    flags = ["--env-file", str(tmp_path / "env"), "--token-file"]
    done = subprocess.run(
        [*SERVE, *flags, f"{tmp_path / 'token'}=https://unknown.example"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 4
    assert "AADSTS500011" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_signal_ends_the_wait_for_the_first_token_of_a_file(
    emulator_factory: Callable[..., Emulator], tmp_path: Path
) -> None:
    emulator = emulator_factory(latency=60)
    command = [
        *SERVE,
        "--env-file",
        str(tmp_path / "env"),
        "--token-file",
        f"{tmp_path / 't'}={VAULT}",
    ]
    environment = {**os.environ, **emulator.environment(), "IMDS_IDENTITY_CACHE": "off"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment) as process:
        try:
            while not emulator.requests:
                assert process.poll() is None
                time.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == -signal.SIGTERM
        finally:
            process.kill()
    assert list(tmp_path.iterdir()) == []
