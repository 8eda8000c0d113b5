"""The command that ``exec`` runs: its environment, signals and exit status."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from typing_extensions import Self

    from .child_windows import WindowsChild

NOT_FOUND = 127
NOT_EXECUTABLE = 126
_FORWARDED_SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGWINCH", "SIGUSR1", "SIGUSR2")
_SENT_BY_KERNEL = 0x80
_POLL_SECONDS = 1.0
# Python ignores these signals, and a child process would inherit that.
_IGNORED_BY_PYTHON = ("SIGPIPE", "SIGXFSZ")


def new_child() -> PosixChild | WindowsChild:
    """Return a command that runs in the foreground of this system's terminal."""
    if sys.platform == "win32":
        from .child_windows import WindowsChild

        return WindowsChild()
    return PosixChild()


class PosixChild:
    """A command on a POSIX system.

    The command stays in this process's group, so that a terminal's signals and job control reach
    it as if the shell had started it. `__enter__` blocks the signals before there are threads, and
    `wait` receives them: no signal is lost, and none interrupts a thread.
    """

    def __init__(self) -> None:
        self._signals = {getattr(signal, name) for name in (*_FORWARDED_SIGNALS, "SIGCHLD")}
        self._mask: set[int] = set()
        self._pid = 0

    def __enter__(self) -> Self:
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, self._signals)
        return self

    def __exit__(self, *_: object) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start ``command``, found as a shell would find it."""
        self._pid = os.posix_spawnp(
            command[0],
            list(command),
            dict(environment),
            setsigmask=self._mask,
            setsigdef=[getattr(signal, name) for name in _IGNORED_BY_PYTHON],
        )

    def wait(self) -> int:
        """Forward signals; return the exit status, or 128 plus the signal if one ended it."""
        while True:
            number, from_terminal = _next_signal(self._signals)
            if number == signal.SIGCHLD:
                status = self._status()
                if status is not None:
                    return status
            elif not from_terminal:
                os.kill(self._pid, number)

    def _status(self) -> int | None:
        pid, status = os.waitpid(self._pid, os.WNOHANG | os.WUNTRACED)
        if pid == 0:
            return None
        if not os.WIFSTOPPED(status):
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        if os.WSTOPSIG(status) == signal.SIGSTOP:
            # The shell waits only for this process, which must stop too, so that the shell notices.
            os.kill(os.getpid(), signal.SIGSTOP)
            os.kill(self._pid, signal.SIGCONT)
        return None


def _next_signal(signals: set[int]) -> tuple[int, bool]:
    """Return the next signal, and whether the terminal sent it to the command as well."""
    if sys.platform == "darwin":  # it has no sigtimedwait, which returns the sender
        number = signal.sigwait(signals)
        return number, number in (
            signal.SIGINT,
            signal.SIGQUIT,
            signal.SIGWINCH,
        ) and _has_terminal()
    info = signal.sigtimedwait(signals, _POLL_SECONDS)
    if info is None:  # a thread that started before signals were blocked may have received SIGCHLD
        return signal.SIGCHLD, False
    return info.si_signo, info.si_code == _SENT_BY_KERNEL


def _has_terminal() -> bool:
    """Return whether this process is in the foreground of a terminal."""
    try:
        descriptor = os.open("/dev/tty", os.O_RDONLY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(descriptor) == os.getpgrp()
    finally:
        os.close(descriptor)


def replace_process(command: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """Replace this process by ``command``."""
    for name in _IGNORED_BY_PYTHON:
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    os.execvpe(command[0], list(command), dict(environment))  # noqa: S606 - the user names the command


def exit_status_of(error: OSError) -> int:
    """Return the exit status with which a shell reports ``error``."""
    return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
