"""Messages and formats that commands share."""

from __future__ import annotations

import errno
import sys

from .._core.failure import Failure, Reason, Refused, Unavailable, escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

FAILED, USAGE, UNAVAILABLE, REFUSED = 1, 2, 3, 4
EXIT_STATUSES = (
    "Exit status of all commands: 0 for success, 1 for a failure, 2 for wrong usage, 3 if there is "
    "no managed identity here, 4 if the service exists but refused the request."
)


# Another attempt may succeed.
_TRANSIENT = (
    Reason.THROTTLED, Reason.SERVICE_FAILING, Reason.NO_RESPONSE, Reason.UNREACHABLE,
    Reason.TIMEOUT,
)  # fmt: skip
# Some hosts report these like a missing identity, so that a chain of credentials continues.
_REFUSALS = (
    Reason.BAD_REQUEST, Reason.MULTIPLE_IDENTITIES, Reason.UNKNOWN_RESOURCE, Reason.ENTRA_REFUSED,
)  # fmt: skip
_MAX_LINE = 160
_SENTENCE_END = r"(?<=[.?!]) (?=[A-Z])"
# Microsoft Entra ID appends these to its errors; its support needs them, but no user.
_TRACE_IDS = r"[\s.,]*\b((?:Trace ID|Correlation ID|Timestamp): \S+(?: \d\d:\d\d:\d\dZ)?)"


def read_input(limit: int = -1) -> bytes:
    """Return what is on standard input; nothing if it is closed."""
    return sys.stdin.buffer.read(limit) if sys.stdin else b""


def failure_status(failure: Failure) -> int:
    """Return the exit status of a command that has failed because of ``failure``."""
    is_refusal = failure.reason in _REFUSALS
    if isinstance(failure, Unavailable) and not is_refusal:
        return UNAVAILABLE
    is_refusal |= isinstance(failure, Refused) and failure.reason not in _TRANSIENT
    return REFUSED if is_refusal else FAILED


def failure_lines(failure: Failure, *, verbose: bool = False) -> list[str]:
    """Return what failed, what was requested, and what to do: at most three lines.

    With ``verbose``, nothing is omitted.
    """
    problem, *details = text_lines(failure.problem.rstrip("."), verbose=verbose, most=1)
    summary = failure.request_summary
    requested = [f"requested: {summary}"] if summary else []
    hint = text_lines(failure.hint, verbose=verbose, most=2)
    if not verbose:
        return [problem, *(map(_shortened, requested) if len(hint) < 2 else ()), *hint]
    tried = f"requests: {failure.attempts} in {failure.seconds:.1f} s"
    return [problem, *requested, tried, *hint, *details]


def text_lines(text: str, *, verbose: bool, most: int = 3) -> list[str]:
    """Return a message as short lines of whole sentences, at most ``most``, and trace IDs last."""
    import re

    ids = re.findall(_TRACE_IDS, text)
    lines: list[str] = []
    for sentence in filter(None, re.split(_SENTENCE_END, re.sub(_TRACE_IDS, "", text))):
        if lines and most > 1 and len(lines[-1]) + len(sentence) < _MAX_LINE:
            lines[-1] += f" {sentence}"
        else:
            lines.append(sentence)
    return [*lines, *ids] if verbose else [_shortened(line) for line in lines[:most]]


def _shortened(line: str) -> str:
    return line if len(line) <= _MAX_LINE else f"{line[: _MAX_LINE - 2].rpartition(' ')[0]} …"


def print_notice(message: object) -> None:
    """Print a message that is not an error to standard error."""
    _print_line(message)


def print_error(message: object) -> int:
    """Print an error to standard error; return `FAILED`."""
    if sys.stderr is not None:  # closed: print() would write to standard output instead
        _print_line(message)
    return FAILED


def print_lines(lines: Sequence[str], status: int = FAILED) -> int:
    """Print an error whose first line is the headline; return its exit status."""
    print_error("\n  ".join(lines))
    return status


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
