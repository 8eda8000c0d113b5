from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from emulator.support import ran
from imds_identity.emulator import DEFAULT_SYSTEM_ASSIGNED, Fault, UserAssigned
from imds_identity.emulator._cli import flags as _flags
from imds_identity.emulator._cli.lines import Lines
from imds_identity.emulator._cli.serve import introduction

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from emulator.support import Start

PROGRAM = (
    "import argparse, sys; from imds_identity.emulator._cli.command import add_arguments, run;"
    "parser = argparse.ArgumentParser(); add_arguments(parser); sys.exit(run(parser.parse_args()))"
)

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals and shells")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.mark.skipif(shutil.which("sh") is None, reason="needs a POSIX shell")
def test_print_env_prints_shell_lines_and_exits(capsys: pytest.CaptureFixture[str]) -> None:
    assert ran("--print-env", "--port", "12345") == 0
    lines = capsys.readouterr().out
    shell = subprocess.run(
        ["/bin/sh", "-c", lines + "env"],
        check=True,
        capture_output=True,
        text=True,
        env={"IDENTITY_ENDPOINT": "http://elsewhere.invalid"},
    ).stdout.splitlines()
    assert "AZURE_POD_IDENTITY_AUTHORITY_HOST=http://127.0.0.1:12345" in shell
    assert "CPL_AZURE_VM_API_ROOT_URL=http://127.0.0.1:12345" in shell
    assert not any(line.startswith("IDENTITY_ENDPOINT") for line in shell)


@pytest.mark.parametrize(
    "flags",
    [
        ("--print-env", "--port", "0"),
        ("--print-env", "--profile", "app-service"),
        ("--host", "0.0.0.0"),
        ("--token-lifetime", "0"),
    ],
)
def test_flags_that_make_no_sense_are_explained(
    capsys: pytest.CaptureFixture[str], flags: Any
) -> None:
    assert ran(*flags) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("imds-identity emulator: ")


def test_a_port_that_is_taken_is_an_error_in_plain_words(
    capsys: pytest.CaptureFixture[str], started: Start
) -> None:
    port = started().endpoint.rpartition(":")[2]
    assert ran("--port", port, "--no-key-vault") == 1
    message = capsys.readouterr().err
    assert port in message
    assert "--port-base" in message


@contextlib.contextmanager
def serving(
    *flags: str, hang_up: Any = "SIG_DFL", **options: Any
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command in a process of its own, once it serves, and its endpoint."""
    own = f"import signal; signal.signal(signal.SIGHUP, signal.{hang_up}); "
    with subprocess.Popen(
        [sys.executable, "-c", own + PROGRAM, "--port", "0", "--key-vault-port", "0", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            while "Serving" not in (line := process.stderr.readline()):
                assert line, process.stdout.read()
            yield process, next(word for word in line.split() if word[:4] == "http").rstrip(";")
        finally:
            process.kill()


@POSIX
@pytest.mark.parametrize("kind", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_it_serves_until_a_signal(kind: str, tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with serving("--profile", "arc", "--no-admin", env=environment) as (process, endpoint):
        requests.get(endpoint + "/metadata/identity/oauth2/token?x=%0A", timeout=10)
        assert process.stderr is not None
        assert "400 GET /metadata/identity/oauth2/token?x=%0A" in process.stderr.readline()
        process.send_signal(getattr(signal, kind))
        lines, rest = process.communicate(timeout=30)
    assert process.returncode == 0
    assert f"export IMDS_ENDPOINT={endpoint}" in lines
    assert "IMDS_EMULATOR_KEY_VAULT_URL" in lines
    assert "Traceback" not in rest
    assert os.listdir(tmp_path) == []


IN_ANOTHER_THREAD = """
import signal, sys, threading, time
from imds_identity.emulator import Emulator
from imds_identity.emulator._cli.serve import serve

def end():
    time.sleep(0.3)  # until the main thread waits
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

serve(Emulator(key_vault=False), started=lambda _: threading.Thread(target=end).start())
"""


@POSIX
def test_a_signal_that_reaches_another_thread_ends_it() -> None:
    done = subprocess.run([sys.executable, "-c", IN_ANOTHER_THREAD], check=False, timeout=30)
    assert done.returncode == 0


@POSIX
def test_under_nohup_it_outlives_its_terminal() -> None:
    with serving("--no-key-vault", "--no-admin", hang_up="SIG_IGN") as (process, endpoint):
        process.send_signal(signal.SIGHUP)
        for _ in range(3):
            assert requests.get(endpoint + "/health", timeout=10).status_code == 200
        process.terminate()
        assert process.wait(30) == 0


@POSIX
def test_it_serves_and_stops_though_nobody_reads_what_it_says() -> None:
    target = "/metadata/versions?padding=" + "x" * 1900
    with serving("--no-key-vault", "--no-admin", "--no-limits") as (process, endpoint):
        with requests.Session() as session:
            for _ in range(60):  # more than a pipe holds
                answer = session.get(endpoint + target, headers={"Metadata": "true"}, timeout=10)
                assert answer.status_code == 200
        process.terminate()
        assert process.wait(30) == 0


@POSIX
def test_it_serves_without_standard_streams(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-c", PROGRAM, "--port", str(port), "--no-key-vault", "--no-admin"]
    closed = f"exec {shlex.join(command)} >&- 2>&-"
    with subprocess.Popen(["/bin/sh", "-c", closed], cwd=tmp_path) as process:
        try:
            while process.poll() is None:
                with contextlib.suppress(requests.ConnectionError):
                    assert requests.get(f"http://127.0.0.1:{port}/health", timeout=10).ok
                    break
            process.terminate()
            assert process.wait(30) == 0
        finally:
            process.kill()


def test_at_start_it_tells_every_id_of_its_identities(started: Start) -> None:
    one = UserAssigned.named("one")
    told = "\n".join(introduction(started(identities=[DEFAULT_SYSTEM_ASSIGNED, one])))
    for identity in (DEFAULT_SYSTEM_ASSIGNED, one):
        assert identity.client_id in told
        assert identity.object_id in told
    assert one.resource_id in told


@given(st.lists(st.text(max_size=20), max_size=20))
def test_lines_come_as_they_were_said(said: list[str]) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as reader:
        with os.fdopen(writing, "w", encoding="utf-8") as stream:
            lines = Lines(stream)
            for line in said:
                lines.add(line)
            lines.close()
        assert reader.read() == "".join(line + "\n" for line in said).encode(
            "utf-8", "backslashreplace"
        )


def test_lines_that_nobody_reads_are_dropped_and_counted() -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        lines = Lines(stream)
        for _ in range(12_000):
            lines.add("x" * 1000)
        with os.fdopen(reading, "rb") as reader:
            while b"lines were dropped" not in reader.readline():
                pass
        lines.add("to a reader who is gone")
        lines.close()


def test_faults_events_and_identities_may_be_flags() -> None:
    assert _flags.fault("status=429,retry_after=2,times=3,probability=0.5") == Fault(
        status=429, retry_after=2, times=3, probability=0.5
    )
    assert _flags.fault("reset=true,category=*") == Fault(reset=True, category="*")
    event = _flags.event("Freeze,notice=60,description=two words")
    assert event == {"event_type": "Freeze", "notice": 60, "description": "two words"}
    one = UserAssigned.named("one")
    assert _flags.identities(["one"], system_assigned=False) == (one,)
    assert _flags.identities(["one"], system_assigned=True) == (DEFAULT_SYSTEM_ASSIGNED, one)


@pytest.mark.parametrize(
    "flags",
    [
        ("--fault", "status"),
        ("--fault", "statu=5"),
        ("--fault", "status=x"),
        ("--fault", "reset=perhaps"),
        ("--fault", "headers=x"),
        ("--fault", "times=3"),
        ("--event", "Party"),
        ("--event", "Freeze,resources=x"),
        ("--events-speed", "0"),
    ],
)
def test_a_flag_that_describes_nothing_is_explained(
    capsys: pytest.CaptureFixture[str], flags: Any
) -> None:
    assert ran(*flags, "--print-env") == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_flags_reach_the_emulator(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--user-assigned", "a", "--no-system-assigned", "--fault", "status=500"]
    assert ran(*flags, "--event", "Reboot", "--events-speed", "60", "--print-env") == 0
