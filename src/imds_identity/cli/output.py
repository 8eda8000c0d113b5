"""Messages on standard error, in the format that all commands share."""

from __future__ import annotations

import errno
import sys

FAILED = 1
"""The exit status of an error."""


def print_notice(message: object) -> None:
    """Print a message that is not an error to standard error."""
    print(f"imds-identity: {message}", file=sys.stderr, flush=True)


def print_error(message: object) -> int:
    """Print an error to standard error; return `FAILED`."""
    if sys.stderr is not None:  # closed: print() would write to standard output instead
        print(f"imds-identity: {message}", file=sys.stderr)
    return FAILED


def is_broken_pipe(error: BaseException) -> bool:
    """Return whether ``error`` means that the reader of standard output is gone."""
    if sys.platform == "win32" and isinstance(error, OSError):
        return error.errno in (errno.EINVAL, errno.EPIPE) and error.filename is None
    return isinstance(error, BrokenPipeError)
