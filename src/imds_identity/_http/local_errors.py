"""Failures of this process, not of a service: out of resources, a missing module, a bug."""

from __future__ import annotations

import errno
import os

from .._core.failure import Reason, Refused, sanitize

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_WINDOWS_ERRORS = (10024, 10055)  # WSAEMFILE, WSAENOBUFS
_EAI_MEMORY = -10  # of getaddrinfo
_EXHAUSTED = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, _EAI_MEMORY, *_WINDOWS_ERRORS}
)
_NO_THREAD = "can't start new thread"
_MAX_CAUSES = 20
# The text of an unexpected exception may contain a secret of any form, but hardly a shorter one.
_LONG_WORD = r"(?=[\w+=~.-]*\d)[\w+=~.-]{24,}"


def local_failure(error: BaseException) -> Refused | None:
    """Return the failure if ``error`` shows that a resource or a module is missing, else None.

    Libraries wrap such errors, and report some of them as a missing module or an unknown host.
    """
    for cause in _causes(error):
        if text := _exhausted(cause):
            return _out_of_resources(text)
        if isinstance(cause, ImportError):
            name = f"the module {cause.name!r}" if cause.name else "a module"
            return Refused(
                f"{name} cannot be imported: {safe_text(cause)}",
                "Install the package that contains it, or add it to the bundle (PyInstaller: "
                "--hidden-import). If the package was upgraded, restart the program. A program "
                "that changes its root directory must import azure.core.exceptions before.",
                reason=Reason.MISSING_MODULE,
            )
    return None


def check_descriptors() -> None:
    """Raise Refused if this process is out of file descriptors, which some calls do not report."""
    if text := _descriptor_problem():
        raise _out_of_resources(text)


def unexpected_failure(error: Exception) -> Refused:
    """Return the failure for an exception that no other code has handled."""
    return local_failure(error) or Refused(
        f"an unexpected error ended the fetch: {type(error).__name__}: {safe_text(error)}",
        "That is a bug in a transport, in a hook or in this package.",
        reason=Reason.INTERNAL_ERROR,
    )


def _out_of_resources(text: str) -> Refused:
    return Refused(
        f"this process is out of files, threads or memory: {text}",
        "The service is not the cause. Find what this program or this machine does not release, or "
        "raise the limit (ulimit -n, ulimit -u, the container's memory and pids).",
        reason=Reason.LOCAL_RESOURCES,
    )


def _exhausted(cause: BaseException) -> str:
    """Return a description if ``cause`` shows that a resource is exhausted, else an empty text."""
    if isinstance(cause, MemoryError):
        return "out of memory"
    if isinstance(cause, RuntimeError) and _NO_THREAD in str(cause):
        return _NO_THREAD
    if isinstance(cause, OSError) and cause.errno in _EXHAUSTED:
        return sanitize(cause.strerror or os.strerror(cause.errno))
    # The name and not the class: importing socket takes a megabyte.
    if isinstance(cause, ImportError) or type(cause).__name__ == "gaierror":
        return _descriptor_problem()
    return ""


def _descriptor_problem() -> str:
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return sanitize(error.strerror or "") if error.errno in _EXHAUSTED else ""
    return ""


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield ``error`` and the exceptions that it wraps in any way."""
    seen: list[BaseException] = [error]
    for cause in seen:  # the loop appends to it
        yield cause
        wrapped = (cause.__cause__, cause.__context__, *cause.args, *vars(cause).values())
        for each in wrapped:
            if isinstance(each, BaseException) and all(each is not known for known in seen):
                seen.append(each)
        if len(seen) > _MAX_CAUSES:
            return


def safe_text(error: BaseException) -> str:
    """Return the text of an exception without anything that may be a secret."""
    import re

    try:
        text = str(error)
    except Exception as failed:  # noqa: BLE001 - the caller's class
        text = f"its text cannot be read ({type(failed).__name__})"
    return sanitize(re.sub(_LONG_WORD, "<hidden>", sanitize(text)), 200) or "no text"
