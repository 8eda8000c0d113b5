"""How every command says that it has failed."""

from __future__ import annotations

import errno
import sys

FAILED = 1
"""The exit status of an error."""


def tell(message: object) -> None:
    """Tell the user, in a line on standard error, what is no error."""
    print(f"imds-identity: {message}", file=sys.stderr, flush=True)


def complain(message: object) -> int:
    """Tell the user, in a line on standard error.

    Returns:
        `FAILED`.
    """
    if sys.stderr is not None:  # closed: print() would write to standard output in its place
        print(f"imds-identity: {message}", file=sys.stderr)
    return FAILED


def reader_is_gone(error: BaseException) -> bool:
    """Whether ``error`` came of writing to a pipe that nobody reads any more."""
    if sys.platform == "win32" and isinstance(error, OSError):
        return error.errno in (errno.EINVAL, errno.EPIPE) and error.filename is None
    return isinstance(error, BrokenPipeError)
