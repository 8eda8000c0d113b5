"""Why there is no token, as the engine says it; errors.py turns these into what users catch."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    from typing_extensions import Self

    from .secret import Secret

    _R = TypeVar("_R", bound="ErrorDetails")

_SECRETS = (
    r"eyJ[\w-]{8,}(?:\.[\w-]*)*"  # anything that starts like a JWT
    r"|(?i:basic|bearer)\s+[^\s\"',]{8,}"
    r"|(?<=access_token)[\"']?\s*[:=]\s*[\"']?[^\s\"',}]+"
    r"|(?<=://)\S+(?=@)"  # user and password of a URL, whatever characters they have
    r"|[^\s:/\"'{},]+:(?!//)[^\s\"'{},]+(?=@)"  # likewise where its scheme was left out
)
_LONGEST_QUOTE = 500


class Failure(Exception):
    """No token. The message is made of what went wrong and what to do, and of what was asked.

    Attributes:
        problem: what went wrong, in the service's own words where it had any.
        hint: what the reader can do about it.
        status: the HTTP status that came last, if any came.
        request_summary: source, endpoint, resource and identity, filled in by who knows them.
        attempts: how many requests were sent.
        seconds: how long it was tried.
        retry_after: seconds for which the service asked to be left alone.
    """

    def __init__(
        self,
        problem: str,
        hint: str = "",
        *,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.hint = hint
        self.status = status
        self.retry_after = retry_after
        self.request_summary = ""
        self.attempts = 0
        self.seconds = 0.0

    def __str__(self) -> str:
        tried = ""
        if self.attempts:
            times = "once" if self.attempts == 1 else f"{self.attempts} times"
            tried = f" Tried {times} in {self.seconds:.1f} s."
        request_summary = f" Asked {self.request_summary}." if self.request_summary else ""
        hint = f" {self.hint}" if self.hint else ""
        return f"{self.problem.rstrip('.')}.{request_summary}{tried}{hint}"

    def redact(self, secret: Secret) -> None:
        """Take ``secret`` out of the message, where somebody echoed it."""
        self.problem, self.hint = secret.redacted(self.problem), secret.redacted(self.hint)
        self.args = (self.problem,)

    def copy(self) -> Self:
        """A copy for one more waiter: an exception that is raised twice mixes its tracebacks."""
        twin = type(self)(self.problem, self.hint, status=self.status, retry_after=self.retry_after)
        twin.request_summary, twin.attempts, twin.seconds = (
            self.request_summary,
            self.attempts,
            self.seconds,
        )
        return twin


class Unavailable(Failure):
    """There is no managed identity to be had here; another kind of credential may do."""


class Refused(Failure):
    """The service answered, and would not give a token."""


class Malformed(Failure):
    """The service answered with something that is no token, or not the one that was asked for."""


class SecretUnreadable(Failure):
    """Arc's challenge could not be met."""


class ErrorDetails(Exception):
    """What users catch has this beside azure-core's own error: the facts of a `Failure`."""

    def __init__(
        self,
        message: str,
        *,
        status_code: int | None = None,
        attempts: int = 0,
        seconds: float = 0.0,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.attempts = attempts
        self.seconds = seconds
        self.retry_after = retry_after

    def _facts(self) -> dict[str, Any]:
        """The keywords that this was made with."""
        return {
            "status_code": self.status_code,
            "attempts": self.attempts,
            "seconds": self.seconds,
            "retry_after": self.retry_after,
        }


def error_details(kind: type[_R], failure: Failure) -> _R:
    """What users catch of one kind, for what the engine says."""
    return kind(
        str(failure),
        status_code=failure.status,
        attempts=failure.attempts,
        seconds=failure.seconds,
        retry_after=failure.retry_after,
    )


_KINDS = {kind.__name__: kind for kind in (Unavailable, Refused, Malformed, SecretUnreadable)}
_LONGEST_FACT = 2000
_MOST = 10**9


def failure_to_dict(failure: Failure) -> dict[str, Any]:
    """``failure`` as JSON can carry it."""
    return {
        "kind": type(failure).__name__,
        "problem": failure.problem,
        "hint": failure.hint,
        "status": failure.status,
        "request_summary": failure.request_summary,
        "attempts": failure.attempts,
        "seconds": failure.seconds,
        "retry_after": failure.retry_after,
    }


def failure_from_dict(facts: object) -> Failure:
    """The failure that `failure_to_dict` has written.

    Raises:
        ValueError: if it has not.
    """
    if not isinstance(facts, dict):
        raise ValueError("no failure's facts")  # noqa: TRY004 - one error for whatever is planted
    kind = facts.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ValueError("no kind of failure")
    failure = _KINDS[kind](
        _words(facts.get("problem")),
        _words(facts.get("hint")),
        status=_whole(facts.get("status")),
        retry_after=_number(facts.get("retry_after")),
    )
    failure.request_summary = _words(facts.get("request_summary"))
    failure.attempts = _whole(facts.get("attempts")) or 0
    failure.seconds = _number(facts.get("seconds")) or 0.0
    return failure


def _words(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("no words")  # noqa: TRY004 - one error for whatever is planted
    return sanitize(value, _LONGEST_FACT)


def _number(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("no number")  # noqa: TRY004 - one error for whatever is planted
    if not 0 <= value <= _MOST:
        raise ValueError("a number out of range")
    return float(value)


def _whole(value: object) -> int | None:
    number = _number(value)
    if number is None:
        return None
    if not number.is_integer():
        raise ValueError("no whole number")
    return int(number)


def sanitize(text: str, longest: int = _LONGEST_QUOTE) -> str:
    """``text`` of somebody else's, fit for a message: one line, bounded, with no secret in it.

    Args:
        text: what they said. Line breaks, escape sequences, characters that turn the direction of
            writing and halves of surrogate pairs become spaces.
        longest: how many characters to keep.
    """
    import re

    visible = "".join(c if c.isprintable() else " " for c in text[: 4 * longest])
    clean = " ".join(re.sub(_SECRETS, "<hidden>", visible).split())
    return clean if len(clean) <= longest else clean[:longest] + "…"
