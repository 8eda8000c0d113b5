"""Why there is no token, as the engine says it; errors.py turns these into what users catch."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

_SECRETS = (
    r"eyJ[\w-]{8,}(?:\.[\w-]*)*"  # anything that starts like a JWT
    r"|(?i:basic|bearer)\s+[^\s\"',]{8,}"
    r"|(?<=access_token)[\"']?\s*[:=]\s*[\"']?[^\s\"',}]+"
)
_LONGEST_QUOTE = 500


class Failure(Exception):
    """No token. The message is made of what went wrong and what to do, and of what was asked.

    Attributes:
        problem: what went wrong, in the service's own words where it had any.
        advice: what the reader can do about it.
        status: the HTTP status that came last, if any came.
        asked: source, endpoint, resource and identity, filled in by who knows them.
        attempts: how many requests were sent.
        seconds: how long it was tried.
        retry_after: seconds for which the service asked to be left alone.
    """

    def __init__(
        self,
        problem: str,
        advice: str = "",
        *,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.advice = advice
        self.status = status
        self.retry_after = retry_after
        self.asked = ""
        self.attempts = 0
        self.seconds = 0.0

    def __str__(self) -> str:
        tried = ""
        if self.attempts:
            times = "once" if self.attempts == 1 else f"{self.attempts} times"
            tried = f" Tried {times} in {self.seconds:.1f} s."
        asked = f" Asked {self.asked}." if self.asked else ""
        advice = f" {self.advice}" if self.advice else ""
        return f"{self.problem.rstrip('.')}.{asked}{tried}{advice}"

    def again(self) -> Self:
        """A copy for one more waiter: an exception that is raised twice mixes its tracebacks."""
        return copy.copy(self).with_traceback(None)

    def __copy__(self) -> Self:
        twin = type(self)(
            self.problem, self.advice, status=self.status, retry_after=self.retry_after
        )
        twin.asked, twin.attempts, twin.seconds = self.asked, self.attempts, self.seconds
        return twin


class Unavailable(Failure):
    """There is no managed identity to be had here; another kind of credential may do."""


class Refused(Failure):
    """The service answered, and would not give a token."""


class Malformed(Failure):
    """The service answered with something that is no token, or not the one that was asked for."""


class SecretUnreadable(Failure):
    """Arc's challenge could not be met."""


_KINDS = {kind.__name__: kind for kind in (Unavailable, Refused, Malformed, SecretUnreadable)}
_FACTS = ("problem", "advice", "status", "asked", "attempts", "seconds", "retry_after")


def facts_of(failure: Failure) -> dict[str, Any]:
    """``failure`` as JSON can carry it."""
    return {"kind": type(failure).__name__, **{name: getattr(failure, name) for name in _FACTS}}


def failure_from(facts: dict[str, Any]) -> Failure:
    """The failure that `facts_of` has written.

    Raises:
        KeyError: if it has not.
    """
    failure = _KINDS[facts["kind"]]("")
    for name in _FACTS:
        setattr(failure, name, facts[name])
    return failure


def quote(text: str) -> str:
    """``text`` of somebody else's, fit for a message: one line, bounded, with no secret in it."""
    import re

    visible = "".join(c if c.isprintable() else " " for c in text[: 4 * _LONGEST_QUOTE])
    clean = " ".join(re.sub(_SECRETS, "<hidden>", visible).split())
    return clean if len(clean) <= _LONGEST_QUOTE else clean[:_LONGEST_QUOTE] + "…"
