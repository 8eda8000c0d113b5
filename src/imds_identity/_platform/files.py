"""Files that only this user may read."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from .replacing import replace

_LARGEST = 64 * 1024


def write_private(path: str, content: bytes) -> None:
    """Put ``content`` into the file ``path``, for this user alone, in place of what was there.

    Whoever reads it meanwhile sees all of the old or all of the new; what a symbolic link leads to
    stays as it is.

    Raises:
        OSError: if it cannot be written.
    """
    import tempfile

    directory = os.path.dirname(os.path.abspath(path))
    try:
        descriptor, unfinished = tempfile.mkstemp(prefix=".", dir=directory)
    except OSError as error:
        error.filename = path  # and not the unfinished file's name, which nobody has heard of
        raise
    try:
        with os.fdopen(descriptor, "wb") as file:
            if sys.platform == "win32":  # where a mode says nothing of others
                from .windows import restrict_to_user

                restrict_to_user(unfinished)
            file.write(content)
        replace(unfinished, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(unfinished)
        raise


def read_private(path: str) -> bytes:
    """The content of a file that nobody else may read.

    Raises:
        OSError: if it cannot be read.
        ValueError: if others may read or change it, or it is no file, or a large one.
    """
    with open(path, "rb", opener=_no_waiting) as file:
        _check_rights(path, os.fstat(file.fileno()))
        content = file.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise ValueError(f"{path} is larger than {_LARGEST} bytes")
    return content


def _check_rights(path: str, status: os.stat_result) -> None:
    if sys.platform == "win32":
        from .windows import how_to_restrict, other_readers

        if other_readers(path):
            raise ValueError(f"{path} may be read by other users: {how_to_restrict(path)}")
    elif status.st_mode & 0o077 or status.st_uid not in (0, os.geteuid()):
        raise ValueError(
            f"{path} may be read by other users: it must be this user's, with mode 0600"
        )


def _no_waiting(path: str, flags: int) -> int:
    # A FIFO in the file's place would hold us for ever.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
