"""``imds-identity exec`` on Windows: finding and ending the command, and its exit status."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "win32", reason="Windows")

EXEC = [sys.executable, "-m", "imds_identity", "exec"]
AFTER_CTRL_C = 0xC000013A


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*EXEC, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("status", [0, 7, 255, AFTER_CTRL_C])
def test_exit_status_is_that_of_the_command(status: int) -> None:
    signed = status - 2**32 if status >= 2**31 else status
    done = run("--", sys.executable, "-c", f"import os; os._exit({signed})")
    assert (done.returncode, done.stderr) == (status, "")


def test_missing_command_is_reported() -> None:
    done = run("--", "no-such-command")
    assert (done.returncode, done.stdout) == (127, "")
    assert "no-such-command cannot be run: No such file" in done.stderr


def test_command_needs_no_file_extension(tmp_path: Path) -> None:
    assert run("--", "cmd", "/c", "echo", "found").stdout == "found\n"


def test_batch_file_gets_its_arguments_unchanged(tmp_path: Path) -> None:
    script = tmp_path / "show.cmd"
    show = f'"{sys.executable}" -c "import json, sys; print(json.dumps(sys.argv[1:]))" %*'
    script.write_text(f"@echo off\r\n{show}\r\nexit /b 9\r\n")
    given = ["a b", "a&echo harmed", 'say "hi"', "tail\\", "--x=1,2", "<in >out |pipe ^caret"]
    done = run("--", str(script), *given)
    assert json.loads(done.stdout) == given
    assert (done.returncode, done.stderr) == (9, "")


def test_killing_exec_ends_the_command() -> None:
    """Windows has no SIGTERM that could be forwarded."""
    script = "import time; print('ready', flush=True); time.sleep(60)"
    process = subprocess.Popen([*EXEC, "--", sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == b"ready"
    process.kill()
    # This reads the end of the pipe only after the command has closed it, too.
    assert process.communicate(timeout=30)[0] == b""


def test_pristine_environment_can_start_programs() -> None:
    done = run("--pristine", "--", sys.executable, "-c", "import os, socket; print(*os.environ)")
    assert done.returncode == 0, done.stderr
    assert {"PATH", "SYSTEMROOT", "IDENTITY_ENDPOINT"} <= set(done.stdout.split())
