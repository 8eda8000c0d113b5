"""A program that is run for the user: its environment, its signals and its exit status."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from typing_extensions import Self

NOT_FOUND = 127
NOT_EXECUTABLE = 126
# What would lead the program to another endpoint than the one that is meant for it.
MISLEADING = (
    "AZURE_POD_IDENTITY_AUTHORITY_HOST",
    "IDENTITY_ENDPOINT",
    "IDENTITY_HEADER",
    "IDENTITY_SERVER_THUMBPRINT",
    "IMDS_ENDPOINT",
    "MSI_ENDPOINT",
    "MSI_SECRET",
)
_FORWARDED = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGWINCH", "SIGUSR1", "SIGUSR2")
_KERNEL = 0x80
# Python ignores these, and a program that is run inherits that.
_IGNORED_BY_PYTHON = ("SIGPIPE", "SIGXFSZ")


class Running(Protocol):
    """A program that is seen through: started, and waited for."""

    def __enter__(self) -> Self:
        """From here on, what would end this process is the program's to answer."""

    def __exit__(self, *_: object) -> None:
        """No more."""

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Run ``command``, found as a shell would find it."""

    def wait(self) -> int:
        """Its exit status, once it has ended."""


def new_child() -> Running:
    """What sees a program through on this system."""
    if sys.platform == "win32":
        from .child_windows import Child as WindowsChild

        return WindowsChild()
    return Child()


class Child:
    """Starts a program and sees it through.

    The program stays in this process's group, so that a terminal's signals and job control reach
    it as if it had been started by itself. Signals are blocked from the moment that this object is
    entered, before there are threads, and taken by `wait`: none is lost, and none cuts into a
    thread.
    """

    def __init__(self) -> None:
        self._signals = {getattr(signal, name) for name in (*_FORWARDED, "SIGCHLD")}
        self._mask: set[int] = set()
        self._pid = 0

    def __enter__(self) -> Self:
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, self._signals)
        return self

    def __exit__(self, *_: object) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Run ``command``, found as a shell would find it.

        Raises:
            OSError: if it cannot be run.
        """
        self._pid = os.posix_spawnp(
            command[0],
            list(command),
            dict(environment),
            setsigmask=self._mask,
            setsigdef=[getattr(signal, name) for name in _IGNORED_BY_PYTHON],
        )

    def wait(self) -> int:
        """Pass signals on until the program has ended.

        Returns:
            Its exit status, or 128 and the number of the signal that ended it.
        """
        while True:
            signaled, of_the_terminal = _next_signal(self._signals)
            if signaled == signal.SIGCHLD:
                status = self._status()
                if status is not None:
                    return status
            elif not of_the_terminal:
                os.kill(self._pid, signaled)

    def _status(self) -> int | None:
        pid, status = os.waitpid(self._pid, os.WNOHANG | os.WUNTRACED)
        if pid == 0:
            return None
        if not os.WIFSTOPPED(status):
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        if os.WSTOPSIG(status) == signal.SIGSTOP:
            # Whoever stopped it alone: a shell sees this process only.
            os.kill(os.getpid(), signal.SIGSTOP)
            os.kill(self._pid, signal.SIGCONT)
        return None


def _next_signal(signals: set[int]) -> tuple[int, bool]:
    """The next signal, and whether a terminal has sent it to the program, too."""
    if sys.platform == "darwin":  # which does not tell who sent it
        number = signal.sigwait(signals)
        return number, number in (
            signal.SIGINT,
            signal.SIGQUIT,
            signal.SIGWINCH,
        ) and _has_terminal()
    info = signal.sigwaitinfo(signals)
    return info.si_signo, info.si_code == _KERNEL


def _has_terminal() -> bool:
    """Whether this process is in the foreground of a terminal."""
    try:
        descriptor = os.open("/dev/tty", os.O_RDONLY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(descriptor) == os.getpgrp()
    finally:
        os.close(descriptor)


def become(command: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """Run ``command`` in place of this process.

    Raises:
        OSError: if it cannot be run.
    """
    for name in _IGNORED_BY_PYTHON:
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    os.execvpe(command[0], list(command), dict(environment))  # noqa: S606 - what the user asked for


def status_of(error: OSError) -> int:
    """The exit status of a shell that could not run a program for ``error``."""
    return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
