"""What a check found."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

Status: TypeAlias = Literal["ok", "warning", "failure", "unknown", "skipped"]
"""What came of a check; one is skipped where it does not apply."""


class Verdict(NamedTuple):
    """What a check says of the facts.

    Attributes:
        status: ``ok``, ``warning``, ``failure``, ``unknown`` or ``skipped``.
        seen: what was seen.
        meaning: what that means; a sentence fit to be the first line.
        remedy: the command or the change that mends it.
    """

    status: Status
    seen: str
    meaning: str = ""
    remedy: str = ""


class Finding(NamedTuple):
    """A verdict and what it is about.

    Attributes:
        id: stable, as ``II021``.
        title: what the check is about.
        status: ``ok``, ``warning``, ``failure``, ``unknown`` (it could not be told) or ``skipped``
            (it does not apply here).
        looked_at: what was looked at.
        seen: what was seen.
        meaning: what that means.
        remedy: what mends it.
        link: the page that says more.
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
    """All is well."""
    return Verdict("ok", seen, meaning)


def warning(seen: str, meaning: str, remedy: str) -> Verdict:
    """This process may get its token, and something here will hurt it or others."""
    return Verdict("warning", seen, meaning, remedy)


def failure(seen: str, meaning: str, remedy: str) -> Verdict:
    """This keeps the process from its token, or the token from being taken."""
    return Verdict("failure", seen, meaning, remedy)


def unknown(seen: str) -> Verdict:
    """It cannot be told, which is no fault."""
    return Verdict("unknown", seen)


def skipped(why: str) -> Verdict:
    """It does not apply here."""
    return Verdict("skipped", why)
