"""Files in memory: no copy of their content reaches a disk, even if this process is killed."""

from __future__ import annotations

import os
from contextlib import suppress

from .._platform.files import write_all

IS_SUPPORTED = hasattr(os, "memfd_create")
"""Whether this system has such files: only Linux does."""


class MemoryFile:
    """A private file in memory, which exists until its last descriptor is closed.

    Programs that inherit the descriptor can read the file, and none can change it.

    Args:
        name: a name for diagnostics.
        inheritable: whether the file survives the replacement of this process.
        mode: the permissions of the file.
    """

    def __init__(self, name: str, *, inheritable: bool = False, mode: int = 0o400) -> None:
        self._name = name
        self._inheritable = inheritable
        self._mode = mode
        self._descriptor: int | None = None

    @property
    def path(self) -> str:
        """The path, which stays the same. It names this process: children lack the descriptor."""
        return f"/proc/{os.getpid()}/fd/{self._descriptor}"

    def write(self, content: bytes) -> None:
        """Replace the content atomically: a program that opens the path gets the old or the new.

        Raises:
            ValueError: if this system allows no files in memory.
            OSError: if the content cannot be replaced.
        """
        try:
            descriptor = self._sealed(content)
        except OSError as error:
            if self._descriptor is not None:
                raise
            raise ValueError(
                "no file in memory can be created here, which needs memfd_create and /proc: "
                f"{error.strerror}. Use a path: imds-identity serve --token-file, secret --file"
            ) from None
        if self._descriptor is None:
            self._descriptor = descriptor
            os.set_inheritable(descriptor, self._inheritable)
        else:
            os.dup2(descriptor, self._descriptor, inheritable=self._inheritable)
            os.close(descriptor)

    def _sealed(self, content: bytes) -> int:
        """Return the descriptor, for reading only, of a new file that nothing can change."""
        import fcntl  # not on Windows

        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
        writable = os.memfd_create(self._name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            write_all(writable, content)
            os.fchmod(writable, self._mode)
            with suppress(OSError):  # gVisor has no seals
                fcntl.fcntl(writable, fcntl.F_ADD_SEALS, seals)
            return os.open(f"/proc/self/fd/{writable}", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.close(writable)
