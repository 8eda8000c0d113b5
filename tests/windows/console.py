"""Press Ctrl-C in Windows consoles and check the exit statuses: `console.py WINE PYTHON_EXE`.

Under wine, the console is a pseudoterminal of the host system, which can send Ctrl-C.
"""

from __future__ import annotations

import os
import pty
import select
import signal
import sys
import time

_TIMEOUT_SECONDS = 120
# Windows ends a program with 0xC000013A after Ctrl-C; wine passes on the lowest byte.
_ENDED_BY_CTRL_C = 0x3A
_WAIT = "import time, sys\ntry:\n    print('ready', flush=True); time.sleep(60)\n"


def press_ctrl_c(
    wine: str, python: str, *arguments: str, until: bytes = b"ready"
) -> tuple[int, str]:
    """Run a Python program, press Ctrl-C; return its exit status and output."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(wine, [wine, python, *arguments])
    output, is_pressed, deadline = b"", False, time.monotonic() + _TIMEOUT_SECONDS
    try:
        while time.monotonic() < deadline:
            if select.select([terminal], [], [], 1)[0]:
                output += os.read(terminal, 4096)
            if not is_pressed and until in output:
                is_pressed = bool(os.write(terminal, b"\x03"))
    except OSError:  # the program exited and closed the terminal
        pass
    else:
        os.kill(pid, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(terminal)
    return status, output.decode("utf-8", "replace")


def main() -> int:
    """Check each program; return 1 if one has another exit status."""
    wine, python = sys.argv[1:]
    run = ["-m", "imds_identity"]
    exec_ = [*run, "exec", "--", "Z:" + python.replace("/", "\\"), "-c"]
    results = {
        "exec with a command that Ctrl-C ends": (
            press_ctrl_c(wine, python, *exec_, _WAIT + "finally: pass"), _ENDED_BY_CTRL_C
        ),
        "exec with a command that handles Ctrl-C": (
            press_ctrl_c(wine, python, *exec_, _WAIT + "except KeyboardInterrupt: sys.exit(42)"), 42
        ),
        "the emulator": (
            press_ctrl_c(wine, python, *run, "emulator", "--no-key-vault", until=b"Ctrl-C"), 0
        ),
    }  # fmt: skip
    failed = 0
    for program, ((status, output), expected) in results.items():
        print(f"Ctrl-C: {program}: status {status}, {expected} expected")
        if status != expected:
            failed = 1
            print(output)
    return failed


if __name__ == "__main__":
    sys.exit(main())
