from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import requests

from emulator.support import ran
from imds_identity.emulator import DEFAULT_SYSTEM_ASSIGNED, Fault, UserAssigned
from imds_identity.emulator._program import flags as _flags

if TYPE_CHECKING:
    from pathlib import Path

    from emulator.support import Start

PROGRAM = (
    "import argparse, sys; from imds_identity.emulator._program.command import add_arguments, run;"
    "parser = argparse.ArgumentParser(); add_arguments(parser); sys.exit(run(parser.parse_args()))"
)


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
    assert port in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_serves_until_a_signal(kind: Any, tmp_path: Path) -> None:
    flags = ["--profile", "arc", "--port", "0", "--key-vault-port", "0", "--no-admin"]
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            while "Serving" not in (line := process.stderr.readline()):
                assert line, process.stdout.read()
            endpoint = next(word.rstrip(";") for word in line.split() if word.startswith("http"))
            requests.get(endpoint + "/metadata/identity/oauth2/token?x=%0A", timeout=10)
            assert "400 GET /metadata/identity/oauth2/token?x=%0A" in process.stderr.readline()
            process.send_signal(kind)
            lines, rest = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 0
    assert f"export IMDS_ENDPOINT={endpoint}" in lines
    assert "IMDS_EMULATOR_KEY_VAULT_URL" in lines
    assert "Traceback" not in rest
    assert os.listdir(tmp_path) == []


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
