"""A command of the user in its own process group, so that it can be stopped with its children."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from ..._platform.clock import SYSTEM_CLOCK
from ..._platform.environment import for_child

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

GRACE_SECONDS = 5.0
"""Seconds between SIGTERM and SIGKILL."""
_POLL_SECONDS = 0.05


class HookProcess:
    """A running shell command."""

    def __init__(self, command: str, variables: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(  # noqa: S602 - the user's shell command
            command,
            shell=True,
            stdin=subprocess.PIPE,
            env=for_child(variables),
            start_new_session=sys.platform != "win32",
        )

    def communicate(self, content: bytes, seconds: float) -> int | None:
        """Write ``content`` to standard input; return the exit status, None if it takes longer."""
        try:
            self._process.communicate(content, seconds)
        except subprocess.TimeoutExpired:
            return None
        return self._process.returncode

    def send_signal(self, *, kill: bool) -> None:
        """Send SIGTERM or SIGKILL to the command and its children (Windows: end the shell)."""
        # The group may be gone already.
        with suppress(ProcessLookupError, PermissionError):
            if sys.platform == "win32":
                self._process.kill()
            else:
                os.killpg(self._process.pid, signal.SIGKILL if kill else signal.SIGTERM)

    def is_running(self) -> bool:
        """Return whether the command or one of its children runs."""
        if self._process.poll() is None:
            return True
        if sys.platform == "win32":
            return False
        try:
            os.killpg(self._process.pid, 0)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def close(self) -> None:
        """Wait for the killed shell, and close the pipe to it."""
        self._process.wait()
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()


def stop_processes(processes: Iterable[HookProcess]) -> None:
    """Stop commands and their children: with SIGTERM, and SIGKILL after `GRACE_SECONDS`."""
    stopping = list(processes)
    for process in stopping:
        process.send_signal(kill=False)
    deadline = SYSTEM_CLOCK.now() + GRACE_SECONDS
    while any(each.is_running() for each in stopping) and SYSTEM_CLOCK.now() < deadline:
        SYSTEM_CLOCK.sleep(_POLL_SECONDS)
    for process in stopping:
        process.send_signal(kill=True)
        process.close()
