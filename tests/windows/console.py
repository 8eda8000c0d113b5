"""Presses Ctrl-C at a Windows console: `console.py WINE PYTHON_EXE`; fails unless all goes well.

Under wine the console is a terminal of this system's, so that a key can be pressed from outside.
"""

from __future__ import annotations

import os
import pty
import select
import signal
import sys
import time

_SECONDS = 120
# wine hands on the lowest byte of an exit status; 0xC000013A says that Ctrl-C ended a program.
_AFTER_CTRL_C = 0x3A
_WAIT = "import time, sys\ntry:\n    print('ready', flush=True); time.sleep(60)\n"


def pressed(wine: str, python: str, *arguments: str, until: bytes = b"ready") -> tuple[int, str]:
    """The exit status of a Python program at which Ctrl-C is pressed, and what it wrote."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(wine, [wine, python, *arguments])
    said, is_pressed, ends = b"", False, time.monotonic() + _SECONDS
    try:
        while time.monotonic() < ends:
            if select.select([terminal], [], [], 1)[0]:
                said += os.read(terminal, 4096)
            if not is_pressed and until in said:
                is_pressed = bool(os.write(terminal, b"\x03"))
    except OSError:  # the terminal is closed: the program has ended
        pass
    else:
        os.kill(pid, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(terminal)
    return status, said.decode("utf-8", "replace")


def main() -> int:
    """Try each program; 1 if one does not end as it should."""
    wine, python = sys.argv[1:]
    run = ["-m", "imds_identity"]
    exec_ = [*run, "exec", "--", "Z:" + python.replace("/", "\\"), "-c"]
    tried = {
        "exec, whose command ends by Ctrl-C": (
            pressed(wine, python, *exec_, _WAIT + "finally: pass"), _AFTER_CTRL_C
        ),
        "exec, whose command answers Ctrl-C": (
            pressed(wine, python, *exec_, _WAIT + "except KeyboardInterrupt: sys.exit(42)"), 42
        ),
        "the emulator": (
            pressed(wine, python, *run, "emulator", "--no-key-vault", until=b"Ctrl-C"), 0
        ),
    }  # fmt: skip
    failed = 0
    for what, ((status, said), expected) in tried.items():
        print(f"Ctrl-C: {what}: status {status}, {expected} expected")
        if status != expected:
            failed = 1
            print(said)
    return failed


if __name__ == "__main__":
    sys.exit(main())
