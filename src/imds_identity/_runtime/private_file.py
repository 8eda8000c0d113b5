"""Files that only this user may read."""

from __future__ import annotations

import os
from contextlib import suppress

_LARGEST = 64 * 1024


def write_private(path: str, content: bytes) -> None:
    """Put ``content`` into the file ``path``, of mode 0600, in place of what was there.

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
            file.write(content)
        os.replace(unfinished, path)
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
        found = os.fstat(file.fileno())
        if hasattr(os, "geteuid") and (
            found.st_mode & 0o077 or found.st_uid not in (0, os.geteuid())
        ):
            raise ValueError(
                f"{path} may be read by other users: it must be this user's, with mode 0600"
            )
        content = file.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise ValueError(f"{path} is larger than {_LARGEST} bytes")
    return content


def _no_waiting(path: str, flags: int) -> int:
    # A FIFO in the file's place would hold us for ever.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
