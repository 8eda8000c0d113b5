"""A program that is run for the user on Windows: how it is found, what ends it, its exit status."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import signal
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .batch import batch_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from typing_extensions import Self

_BATCH = (".bat", ".cmd")
# What a console sends to all of its programs: this one leaves it to the command.
_OF_THE_CONSOLE = ("SIGINT", "SIGBREAK")
_EXTENDED_LIMITS = 9
_KILL_WITH_THE_JOB = 0x2000
_CHILDREN_OF_ITS_OWN_BREAK_AWAY = 0x1000
_SET_QUOTA_AND_TERMINATE = 0x101
_NEGATIVE = 1 << 31


class Child:
    """Starts a program and sees it through.

    Ctrl-C and Ctrl-Break reach the program from the console itself. Whatever else ends this process
    ends the program with it: Windows has no signal that could be passed on.
    """

    def __init__(self) -> None:
        self._before: list[tuple[Any, Any]] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._job: object = None

    def __enter__(self) -> Self:
        for name in _OF_THE_CONSOLE:
            number = getattr(signal, name, None)
            if number is not None:
                self._before.append((number, signal.signal(number, signal.SIG_IGN)))
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before:
            signal.signal(number, handler)

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Run ``command``, found as cmd.exe would find it: by PATH and PATHEXT.

        Raises:
            OSError: if it cannot be run.
            ValueError: if it is a batch file and an argument cannot be handed to it.
        """
        program = shutil.which(command[0], path=environment.get("PATH"))
        if program is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), command[0])
        line: str | list[str] = [program, *command[1:]]
        shell = None
        if program.lower().endswith(_BATCH):
            shell = environment.get("COMSPEC", r"C:\Windows\System32\cmd.exe")
            line = batch_line(shell, program, command[1:])
        self._process = subprocess.Popen(line, executable=shell, env=dict(environment))  # noqa: S603 - what the user asked for
        with suppress(AttributeError, OSError):
            self._job = _job_with(self._process.pid)

    def wait(self) -> int:
        """Wait until the program has ended.

        Returns:
            Its exit status as Python exits with it: one with the highest bit set, such as
            0xC000013A after Ctrl-C, is negative.
        """
        assert self._process is not None
        status = self._process.wait()
        return status - 2 * _NEGATIVE if status >= _NEGATIVE else status


class _Limits(ctypes.Structure):
    """JOBOBJECT_EXTENDED_LIMIT_INFORMATION, of which only the flags are used.

    https://learn.microsoft.com/windows/win32/api/winnt/ns-winnt-jobobject_extended_limit_information
    """

    _fields_ = (
        ("times", ctypes.c_int64 * 2),
        ("flags", ctypes.c_uint32),
        ("working_set", ctypes.c_size_t * 2),
        ("processes", ctypes.c_uint32),
        ("affinity", ctypes.c_size_t),
        ("classes", ctypes.c_uint32 * 2),
        ("counters", ctypes.c_uint64 * 6),
        ("memory", ctypes.c_size_t * 4),
    )


def _job_with(pid: int) -> object:
    """A job with the process ``pid`` in it, which Windows ends when this process has ended."""
    kernel = vars(ctypes)["WinDLL"]("kernel32", use_last_error=True)
    for name in ("CreateJobObjectW", "OpenProcess"):
        getattr(kernel, name).restype = ctypes.c_void_p
    job = ctypes.c_void_p(kernel.CreateJobObjectW(None, None))
    limits = _Limits(flags=_KILL_WITH_THE_JOB | _CHILDREN_OF_ITS_OWN_BREAK_AWAY)
    kernel.SetInformationJobObject(
        job, _EXTENDED_LIMITS, ctypes.byref(limits), ctypes.sizeof(limits)
    )
    process = ctypes.c_void_p(kernel.OpenProcess(_SET_QUOTA_AND_TERMINATE, 0, pid))
    kernel.AssignProcessToJobObject(job, process)
    kernel.CloseHandle(process)
    return job
