"""The result of one check."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

Status: TypeAlias = Literal["ok", "warning", "failure", "unknown", "skipped"]
"""The result of a check. A check that does not apply to this machine is skipped."""


class Verdict(NamedTuple):
    """What a check concludes from the facts; its fields are those of `Finding`."""

    status: Status
    seen: str
    meaning: str = ""
    remedy: str = ""


class Finding(NamedTuple):
    """The result of one check, with a description of the check.

    Attributes:
        id: The check's stable ID, such as ``II021``.
        title: The subject of the check.
        status: ``ok``, ``warning``, ``failure``, ``unknown`` (the check cannot decide) or
            ``skipped`` (the check does not apply).
        looked_at: The things that the check examines.
        seen: The observation.
        meaning: The conclusion: the likely cause of a failure.
        remedy: The command or the change that fixes it.
        link: A page with more information.
    """

    id: str
    title: str
    status: Status
    looked_at: str
    seen: str
    meaning: str
    remedy: str
    link: str


def ok(seen: str, meaning: str = "") -> Verdict:
    """Report that the check found no fault."""
    return Verdict("ok", seen, meaning)


def warning(seen: str, meaning: str, remedy: str) -> Verdict:
    """Report a fault that does not prevent this process from acquiring a token."""
    return Verdict("warning", seen, meaning, remedy)


def failure(seen: str, meaning: str, remedy: str) -> Verdict:
    """Report a fault that prevents acquiring a token, or makes services reject the token."""
    return Verdict("failure", seen, meaning, remedy)


def unknown(seen: str) -> Verdict:
    """Report that the check cannot decide, which is not a fault."""
    return Verdict("unknown", seen)


def skipped(reason: str) -> Verdict:
    """Report that the check does not apply."""
    return Verdict("skipped", reason)
