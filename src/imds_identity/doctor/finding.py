"""The result of one check, and the values in its remedy, which users paste into a shell."""

from __future__ import annotations

import re
import shlex
from typing import Literal, NamedTuple, TypeAlias

from .._core.failure import sanitize

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
        category: The group of checks that it belongs to, such as ``network``.
        page: The check's description in this package's documentation.
    """

    id: str
    title: str
    status: Status
    looked_at: str
    seen: str
    meaning: str
    remedy: str
    link: str
    category: str
    page: str


class ArgumentKind(NamedTuple):
    """The values that a command may contain, and the placeholder for any other."""

    pattern: str
    placeholder: str


_MAX_SENTENCE = 1000
_HOST_PATTERN = r"(?:[A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\])"
_GUID_PATTERN = r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
ACCOUNT = ArgumentKind(r"[a-z0-9][a-z0-9.-]{0,252}", "ACCOUNT")
ADDRESS = ArgumentKind(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}", "ADDRESS")
APP = ArgumentKind(r"[A-Za-z0-9][A-Za-z0-9-]{0,59}", "NAME")
CLIENT_ID = ArgumentKind(_GUID_PATTERN, "CLIENT_ID")
CODE = ArgumentKind(r"[A-Z0-9]{1,20}", "CODE")
GATEWAY = ArgumentKind(ADDRESS.pattern, "DEFAULT_GATEWAY")
HOST = ArgumentKind(rf"(?:{_HOST_PATTERN}|[0-9A-Fa-f:.]+)", "HOST")
HOST_AND_PORT = ArgumentKind(rf"{_HOST_PATTERN}(?::[0-9]{{1,5}})?", "HOST")
INTERFACE = ArgumentKind(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,14}", "PRIMARY_INTERFACE")
MACHINE = ArgumentKind(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}", "VM")
NETWORK = ArgumentKind(rf"{ADDRESS.pattern}/[0-9]{{1,2}}", "NETWORK")
OBJECT_ID = ArgumentKind(_GUID_PATTERN, "OBJECT_ID")
PATH = ArgumentKind(r"/[A-Za-z0-9._/-]{1,500}", "FILE")
POD = ACCOUNT._replace(placeholder="POD")
DEPLOYMENT = ACCOUNT._replace(placeholder="DEPLOYMENT")
NAMESPACE = ACCOUNT._replace(placeholder="NAMESPACE")
RESOURCE = ArgumentKind(
    rf"[a-z][a-z0-9+.-]*://[A-Za-z0-9][A-Za-z0-9._~:/-]*|{_GUID_PATTERN}", "RESOURCE"
)
RESOURCE_ID = ArgumentKind(r"/[A-Za-z0-9][A-Za-z0-9._()/-]{0,499}", "RESOURCE_ID")
RESOURCE_GROUP = ArgumentKind(r"\w[\w.()-]{0,89}", "GROUP")
REVISION = APP._replace(placeholder="REVISION")
SUBJECT = ArgumentKind(r"[A-Za-z0-9][A-Za-z0-9:._/-]{0,599}", "SUBJECT")
SUBSCRIPTION = ArgumentKind(_GUID_PATTERN, "SUBSCRIPTION")
UNIT = ArgumentKind(r"[A-Za-z0-9_@.:-]{1,200}\.service", "SERVICE")
WORKSPACE = MACHINE._replace(placeholder="WORKSPACE")
USER = ArgumentKind(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}", "USER")


def argument(value: object, kind: ArgumentKind) -> str:
    """Return ``value`` for a shell, or the placeholder if it is not a plain value of its kind.

    The values come from files, services and other users. A shell would take the ``<hidden>`` of
    `sanitize` for a redirection.
    """
    text = value if isinstance(value, str) else ""
    is_plain = sanitize(text) == text and re.fullmatch(kind.pattern, text)
    return shlex.quote(text) if is_plain else kind.placeholder


def is_plain_sentence(text: str) -> bool:
    """Return whether ``text`` is harmless in a shell, which would only look up its first word."""
    return text == sanitize(text, _MAX_SENTENCE) and not re.search(r"[$`\\|&;<>!]|\S[(]", text)


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
