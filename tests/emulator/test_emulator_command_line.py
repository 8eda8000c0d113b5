from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from emulator.support import free_port, run_command
from imds_identity.emulator import DEFAULT_SYSTEM_ASSIGNED, Fault, UserAssigned
from imds_identity.emulator._cli.flag_parsing import build_identities, parse_event, parse_fault
from imds_identity.emulator._cli.line_writer import LineWriter
from imds_identity.emulator._cli.serve import startup_lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from emulator.support import Start

PROGRAM = (
    "import argparse, sys; from imds_identity.emulator._cli.command import add_arguments, run;"
    "parser = argparse.ArgumentParser(); add_arguments(parser); sys.exit(run(parser.parse_args()))"
)

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals and shells")


@pytest.mark.skipif(shutil.which("sh") is None, reason="needs a POSIX shell")
def test_print_env_prints_shell_lines_and_exits(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command("--print-env", "--port", "12345") == 0
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
        ("--print-env", "--profile", "app-service", "--port", "0"),
        ("--host", "0.0.0.0"),
        ("--token-lifetime", "0"),
    ],
)
def test_invalid_flags_are_explained(capsys: pytest.CaptureFixture[str], flags: Any) -> None:
    assert run_command(*flags) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("imds-identity emulator: ")


def test_port_in_use_is_explained(
    capsys: pytest.CaptureFixture[str], start_emulator: Start
) -> None:
    port = start_emulator().endpoint.rpartition(":")[2]
    assert run_command("--port", port, "--no-key-vault") == 1
    message = capsys.readouterr().err
    assert port in message
    assert "--port-base" in message


@contextlib.contextmanager
def serving(
    *flags: str, sighup: Any = "SIG_DFL", **options: Any
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command in a process; yields the process and its endpoint once it serves."""
    setup = f"import signal; signal.signal(signal.SIGHUP, signal.{sighup}); "
    with subprocess.Popen(
        [sys.executable, "-c", setup + PROGRAM, "--port", "0", "--key-vault-port", "0", *flags],
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
@pytest.mark.parametrize("signal_name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_it_serves_until_a_signal(signal_name: str, tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with serving("--profile", "arc", "--no-admin", env=environment) as (process, endpoint):
        requests.get(endpoint + "/metadata/identity/oauth2/token?x=%0A", timeout=10)
        assert process.stderr is not None
        assert "400 GET /metadata/identity/oauth2/token?x=%0A" in process.stderr.readline()
        process.send_signal(getattr(signal, signal_name))
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
def test_signal_that_another_thread_receives_stops_it() -> None:
    done = subprocess.run([sys.executable, "-c", IN_ANOTHER_THREAD], check=False, timeout=30)
    assert done.returncode == 0


@POSIX
def test_it_keeps_running_under_nohup() -> None:
    with serving("--no-key-vault", "--no-admin", sighup="SIG_IGN") as (process, endpoint):
        process.send_signal(signal.SIGHUP)
        for _ in range(3):
            assert requests.get(endpoint + "/health", timeout=10).status_code == 200
        process.terminate()
        assert process.wait(30) == 0


@POSIX
def test_it_serves_and_stops_when_its_output_is_not_read() -> None:
    target = "/metadata/versions?padding=" + "x" * 1900
    with serving("--no-key-vault", "--no-admin", "--no-limits") as (process, endpoint):
        with requests.Session() as session:
            for _ in range(60):  # more than a pipe holds
                response = session.get(endpoint + target, headers={"Metadata": "true"}, timeout=10)
                assert response.status_code == 200
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


def test_startup_lines_have_all_ids_of_the_identities(start_emulator: Start) -> None:
    one = UserAssigned.named("one")
    text = "\n".join(startup_lines(start_emulator(identities=[DEFAULT_SYSTEM_ASSIGNED, one])))
    for identity in (DEFAULT_SYSTEM_ASSIGNED, one):
        assert identity.client_id in text
        assert identity.object_id in text
    assert one.resource_id in text


@given(st.lists(st.text(max_size=20), max_size=20))
def test_line_writer_writes_lines_unchanged(lines_in: list[str]) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as reader:
        with os.fdopen(writing, "w", encoding="utf-8") as stream:
            lines = LineWriter(stream)
            for line in lines_in:
                lines.add(line)
            lines.close()
        assert reader.read() == "".join(line + "\n" for line in lines_in).encode(
            "utf-8", "backslashreplace"
        )


def test_line_writer_drops_and_counts_lines_that_are_not_read() -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        lines = LineWriter(stream)
        for _ in range(12_000):
            lines.add("x" * 1000)
        with os.fdopen(reading, "rb") as reader:
            while b"lines were dropped" not in reader.readline():
                pass
        lines.add("after the reader is gone")
        lines.close()


def test_faults_events_and_identities_can_be_set_by_flags() -> None:
    assert parse_fault("status=429,retry_after=2,times=3,probability=0.5") == Fault(
        status=429, retry_after=2, times=3, probability=0.5
    )
    assert parse_fault("reset=true,category=*") == Fault(reset=True, category="*")
    event = parse_event("Freeze,notice=60,description=two words")
    assert event == {"event_type": "Freeze", "notice": 60, "description": "two words"}
    one = UserAssigned.named("one")
    assert build_identities(["one"], system_assigned=False) == (one,)
    assert build_identities(["one"], system_assigned=True) == (DEFAULT_SYSTEM_ASSIGNED, one)


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
def test_invalid_value_of_a_flag_is_explained(
    capsys: pytest.CaptureFixture[str], flags: Any
) -> None:
    assert run_command(*flags, "--print-env") == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_wrong_attribute_is_explained_with_the_nearest_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_command("--fault", "retryafter=5", "--print-env") == 2
    assert "Did you mean retry_after?" in capsys.readouterr().err


def test_combined_flags_are_accepted(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--user-assigned", "a", "--no-system-assigned", "--fault", "status=500"]
    assert run_command(*flags, "--event", "Reboot", "--events-speed", "60", "--print-env") == 0
