"""Messages and formats that commands share."""

from __future__ import annotations

import errno
import sys

from .._core.failure import escape

FAILED = 1
"""The exit status of an error."""


def print_notice(message: object) -> None:
    """Print a message that is not an error to standard error."""
    _print_line(message)


def print_error(message: object) -> int:
    """Print an error to standard error; return `FAILED`."""
    if sys.stderr is not None:  # closed: print() would write to standard output instead
        _print_line(message)
    return FAILED


def _print_line(message: object) -> None:
    """Print a message without control characters, which names of files may contain."""
    shown = escape(str(message), keep="\n")
    print(f"imds-identity: {shown}", file=sys.stderr, flush=True)


def write_bytes(content: bytes) -> None:
    """Write ``content`` to standard output; to a terminal with escaped control characters."""
    if sys.stdout.isatty():
        text = content.decode("utf-8", "backslashreplace").replace("\r\n", "\n")
        content = escape(text, keep="\n\t").encode()
    sys.stdout.flush()
    sys.stdout.buffer.write(content)


def to_json(value: object) -> str:
    """Return ``value`` as indented JSON."""
    import json

    return json.dumps(value, indent=2)


def utc_time(seconds: int) -> str:
    """Return a Unix time in ISO 8601."""
    from datetime import datetime, timezone

    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def subscription_of(resource_id: object) -> str | None:
    """Return the subscription of ``/subscriptions/ID/...``; a claim may have any type and value."""
    path = resource_id.split("/") if isinstance(resource_id, str) else []
    return path[2] if path[1:2] == ["subscriptions"] and path[2:] else None


def is_broken_pipe(error: BaseException) -> bool:
    """Return whether ``error`` means that the reader of standard output is gone."""
    if sys.platform == "win32" and isinstance(error, OSError):
        return error.errno in (errno.EINVAL, errno.EPIPE) and error.filename is None
    return isinstance(error, BrokenPipeError)
