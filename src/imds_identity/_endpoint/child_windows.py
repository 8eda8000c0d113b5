"""The command that ``exec`` runs on Windows: how it is found and ended, and its exit status."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import signal
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

from .batch_files import batch_command_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import FrameType

    from typing_extensions import Self

    Handler = Callable[[int, FrameType | None], object] | int | None

_BATCH_FILES = (".bat", ".cmd")
# A console sends these to all its programs. This process leaves them to the command.
_CONSOLE_SIGNALS = ("SIGINT", "SIGBREAK")
_EXTENDED_LIMIT_INFORMATION = 9
_KILL_ON_JOB_CLOSE = 0x2000
_SILENT_BREAKAWAY_OK = 0x1000
_SET_QUOTA_AND_TERMINATE = 0x101
_SIGN_BIT = 1 << 31


class WindowsChild:
    """A command on Windows.

    The console itself sends Ctrl-C and Ctrl-Break to the command. If this process is ended in
    another way, Windows ends the command, too: there is no signal that could be forwarded.
    """

    def __init__(self) -> None:
        self._previous_handlers: list[tuple[int, Handler]] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._job: object = None

    def __enter__(self) -> Self:
        for name in _CONSOLE_SIGNALS:
            number = getattr(signal, name, None)
            if number is not None:
                self._previous_handlers.append((number, signal.signal(number, signal.SIG_IGN)))
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous_handlers:
            signal.signal(number, handler)

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start ``command``, found as cmd.exe would find it: by PATH and PATHEXT."""
        program = shutil.which(command[0], path=environment.get("PATH"))
        if program is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), command[0])
        line: str | list[str] = [program, *command[1:]]
        shell = None
        if program.lower().endswith(_BATCH_FILES):
            shell = environment.get("COMSPEC", r"C:\Windows\System32\cmd.exe")
            line = batch_command_line(shell, program, command[1:])
        self._process = subprocess.Popen(line, executable=shell, env=dict(environment))  # noqa: S603 - the user names the command
        with suppress(AttributeError, OSError):
            self._job = _job_with(self._process.pid)

    def wait(self) -> int:
        """Return the exit status as a signed number, which `sys.exit` requires."""
        assert self._process is not None
        status = self._process.wait()
        return status - 2 * _SIGN_BIT if status >= _SIGN_BIT else status


class _Limits(ctypes.Structure):
    """JOBOBJECT_EXTENDED_LIMIT_INFORMATION; only its flags are used.

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
    """Put the process ``pid`` into a job, so that Windows ends it together with this process."""
    kernel = vars(ctypes)["WinDLL"]("kernel32", use_last_error=True)
    for name in ("CreateJobObjectW", "OpenProcess"):
        getattr(kernel, name).restype = ctypes.c_void_p
    job = ctypes.c_void_p(kernel.CreateJobObjectW(None, None))
    limits = _Limits(flags=_KILL_ON_JOB_CLOSE | _SILENT_BREAKAWAY_OK)
    kernel.SetInformationJobObject(
        job, _EXTENDED_LIMIT_INFORMATION, ctypes.byref(limits), ctypes.sizeof(limits)
    )
    process = ctypes.c_void_p(kernel.OpenProcess(_SET_QUOTA_AND_TERMINATE, 0, pid))
    kernel.AssignProcessToJobObject(job, process)
    kernel.CloseHandle(process)
    return job
