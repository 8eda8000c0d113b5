"""Failures inside the package; errors.py maps them to public exceptions."""

from __future__ import annotations

import enum

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar, TypeVar

    from typing_extensions import Self

    from .secret import Secret

    E = TypeVar("E", bound="ErrorDetails")

_SECRETS = (
    r"eyJ[\w-]{8,}(?:\.[\w-]*)*"  # anything that starts like a JWT
    r"|(?i:basic|bearer)\s+[^\s\"',]{8,}"
    r"|(?<=access_token)[\"']?\s*[:=]\s*[\"']?[^\s\"',}]+"
)
# Tried only where a word begins, so that long words do not take quadratic time.
_LOGIN_IN_URL = r"(?<!\S)(?=\S*@)((?:(?!://)\S)*://)\S+(?=@)"  # with any characters
_WORD_BEFORE_AT = r"(?<![^\s\"'{},])[^\s\"'{},]+(?=@)"
_LOGIN = r"(?<![^:/])[^:/]+:(?!//).+"
_MAX_QUOTE = 500
_HELP = "https://imds-identity.readthedocs.io/troubleshooting/"


class Reason(enum.Enum):
    """The cause of a `Failure`. Messages may change, but these values do not."""

    # Nothing usable responds at the endpoint.
    UNREACHABLE = "unreachable"  # refused, no route, no such name, or no connection in time
    NO_RESPONSE = "no-response"  # a connection, but no complete response
    WRONG_SERVICE = "wrong-service"  # the response did not come from the token service
    REDIRECT = "redirect"
    PROXY = "proxy"  # Docker or a proxy responded that the service is unreachable
    TLS = "tls"  # TLS certificate verification failed
    UNAVAILABLE = "unavailable"  # any other reason why no managed identity is available
    # Settings.
    INVALID_SETTING = "invalid-setting"  # an endpoint, thumbprint, or secret that cannot be used
    UNSUPPORTED = "unsupported"  # the host or transport cannot do what the caller requested
    UNSUPPORTED_VERSION = "unsupported-version"  # the service does not know the api-version
    FEDERATED_TOKEN = "federated-token"  # noqa: S105 - the workload's token file cannot be used
    # Refusals by the service.
    BAD_REQUEST = "bad-request"  # HTTP 400 for no reason that is recognized
    IDENTITY_NOT_FOUND = "identity-not-found"  # not assigned to this machine
    IDENTITY_DELETED = "identity-deleted"  # unknown to Microsoft Entra ID
    MULTIPLE_IDENTITIES = "multiple-identities"  # the request must select one
    UNKNOWN_RESOURCE = "unknown-resource"
    ENTRA_REFUSED = "entra-refused"  # another code of Microsoft Entra ID: `Failure.service_code`
    NOT_FOUND = "not-found"  # metadata has no such element
    METADATA_SECURITY = "metadata-security"  # the VM's guest proxy agent denied access
    THROTTLED = "throttled"
    SERVICE_FAILING = "service-failing"  # HTTP 404, 410, or 5xx after all retries
    REFUSED = "refused"  # any other refusal
    # Responses that are not a token, or not the requested one.
    MALFORMED = "malformed"
    IDENTITY_MISMATCH = "identity-mismatch"  # the token may belong to another identity
    TOKEN_EXPIRED = "token-expired"  # noqa: S105 - on arrival
    # Azure Arc's challenge.
    ARC_CHALLENGE_MALFORMED = "arc-challenge-malformed"
    ARC_NOT_CHALLENGED = "arc-not-challenged"  # HTTP 200 without a challenge
    ARC_ENDPOINT_NOT_LOCAL = "arc-endpoint-not-local"
    ARC_LISTENER_UNTRUSTED = "arc-listener-untrusted"
    ARC_KEY_FILE_MISSING = "arc-key-file-missing"
    ARC_KEY_FILE_DENIED = "arc-key-file-denied"
    ARC_KEY_FILE_INVALID = "arc-key-file-invalid"  # not a key file of the agent
    ARC_KEY_FILE_LINK = "arc-key-file-link"  # a symbolic link
    ARC_KEY_FILE_OUTSIDE = "arc-key-file-outside"  # not in the agent's directory
    ARC_KEY_FILE_UNREADABLE = "arc-key-file-unreadable"  # any other reason
    ARC_KEY_REJECTED = "arc-key-rejected"
    ARC_NOT_CONNECTED = "arc-not-connected"  # the agent has no connection to Azure
    # The fetch itself.
    INTERRUPTED = "interrupted"
    TIMEOUT = "timeout"
    RECURSIVE = "recursive"  # a fetch requested the token that it was fetching
    TRANSPORT_ERROR = "transport-error"  # an exception in the caller's transport or hook
    LOCAL_RESOURCES = "local-resources"  # out of file descriptors, threads, or memory
    MISSING_MODULE = "missing-module"  # an import failed
    INTERNAL_ERROR = "internal-error"


# These say nothing about the requests of other processes.
_LOCAL_REASONS = frozenset(
    {
        Reason.TRANSPORT_ERROR, Reason.LOCAL_RESOURCES, Reason.MISSING_MODULE,
        Reason.INTERNAL_ERROR,
    }
)  # fmt: skip


class Failure(Exception):
    """Why there is no token. The message states what failed, what was requested, and what to do.

    Attributes:
        problem: what failed, with the service's error text if there is one.
        hint: what the reader can do about it.
        reason: the cause, for code.
        status: the HTTP status of the last response, if there was one.
        service_code: Microsoft Entra ID's code in the service's error, such as ``AADSTS500011``.
        request_summary: source, endpoint, resource, and identity.
        attempts: the number of requests that were sent.
        seconds: the duration of all attempts.
        retry_after: seconds to wait before the next request, if the service requires it.
    """

    default_reason: ClassVar[Reason] = Reason.INTERNAL_ERROR

    def __init__(
        self,
        problem: str,
        hint: str = "",
        *,
        reason: Reason | None = None,
        status: int | None = None,
        service_code: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(problem)
        self.problem: str = problem
        self.hint: str = hint
        self.reason: Reason = reason or self.default_reason
        self.status = status
        self.service_code = service_code
        self.retry_after = retry_after
        self.request_summary = ""
        self.attempts = 0
        self.seconds: float = 0.0

    def __str__(self) -> str:
        tried = ""
        if self.attempts:
            times = "once" if self.attempts == 1 else f"{self.attempts} times"
            tried = f" Tried {times} in {self.seconds:.1f} s."
        request_summary = f" Requested {self.request_summary}." if self.request_summary else ""
        hint = f" {self.hint}" if self.hint else ""
        return f"{self.problem.rstrip('.')}.{request_summary}{tried}{hint}"

    @property
    def is_local(self) -> bool:
        """Whether the cause is in this process."""
        return self.reason in _LOCAL_REASONS

    def redact(self, secret: Secret) -> None:
        """Remove ``secret`` from the message: a service may echo it."""
        self.problem, self.hint = secret.redacted(self.problem), secret.redacted(self.hint)
        self.args: tuple[Any, ...] = (self.problem,)

    def copy(self) -> Self:
        """Return a copy for another waiter: raising one exception twice mixes tracebacks."""
        copied = type(self)(self.problem, self.hint)
        copied.__dict__.update(self.__dict__)
        return copied


class Unavailable(Failure):
    """No managed identity is available here; another kind of credential may work."""

    default_reason = Reason.UNAVAILABLE


class Refused(Failure):
    """The service exists but issued no token: a chain must not continue with another credential."""

    default_reason = Reason.REFUSED


class Malformed(Failure):
    """The service returned something other than a token, or not the requested token."""

    default_reason = Reason.MALFORMED


class SecretUnreadable(Failure):
    """Azure Arc's challenge failed."""

    default_reason = Reason.ARC_KEY_FILE_UNREADABLE


class ErrorDetails(Exception):
    """The facts of a `Failure` that public exceptions carry in addition to azure-core's own."""

    def __init__(
        self,
        message: str,
        *,
        reason_code: str = "",
        status_code: int | None = None,
        attempts: int = 0,
        seconds: float = 0.0,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason_code = reason_code
        self.status_code = status_code
        self.attempts = attempts
        self.seconds = seconds
        self.retry_after = retry_after

    @property
    def help_url(self) -> str:
        """The section about this cause in the documentation."""
        return f"{_HELP}#{self.reason_code}" if self.reason_code else _HELP

    def _facts(self) -> dict[str, Any]:
        """Return the keyword arguments that created this exception."""
        names = ("reason_code", "status_code", "attempts", "seconds", "retry_after")
        return {name: getattr(self, name) for name in names}


def error_details(kind: type[E], failure: Failure) -> E:
    """Return the public exception of class ``kind`` for ``failure``."""
    return kind(
        str(failure),
        reason_code=failure.reason.value,
        status_code=failure.status,
        attempts=failure.attempts,
        seconds=failure.seconds,
        retry_after=failure.retry_after,
    )


_KINDS = {kind.__name__: kind for kind in (Unavailable, Refused, Malformed, SecretUnreadable)}
_REASONS = {reason.value: reason for reason in Reason}
_SERIALIZED = (
    *("problem", "hint", "status", "service_code", "request_summary"),
    *("attempts", "seconds", "retry_after"),
)
_MAX_TEXT = 2000
_MAX_NUMBER = 10**9


def failure_to_dict(failure: Failure) -> dict[str, object]:
    """Return ``failure`` as JSON-serializable values."""
    facts = {name: getattr(failure, name) for name in _SERIALIZED}
    return {"kind": type(failure).__name__, "reason": failure.reason.value, **facts}


def failure_from_dict(facts: object) -> Failure:
    """Return the failure that `failure_to_dict` serialized.

    A missing or unknown reason, from another version, becomes the default of the class. Raise
    ValueError if the values are not those of a failure.
    """
    if not isinstance(facts, dict):
        raise ValueError("not a failure's facts")  # noqa: TRY004 - one error for any invalid file
    kind, reason = facts.get("kind"), facts.get("reason")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ValueError("not a kind of failure")
    failure = _KINDS[kind](
        _text(facts.get("problem")),
        _text(facts.get("hint")),
        reason=_REASONS.get(reason) if isinstance(reason, str) else None,
        status=_integer(facts.get("status")),
        service_code=_text(facts.get("service_code", "")),
        retry_after=_number(facts.get("retry_after")),
    )
    failure.request_summary = _text(facts.get("request_summary"))
    failure.attempts = _integer(facts.get("attempts")) or 0
    failure.seconds = _number(facts.get("seconds")) or 0.0
    return failure


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("not a text")  # noqa: TRY004 - one error for any invalid file
    return sanitize(value, _MAX_TEXT)


def _number(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("not a number")  # noqa: TRY004 - one error for any invalid file
    if not 0 <= value <= _MAX_NUMBER:
        raise ValueError("not a number in range")
    return float(value)


def _integer(value: object) -> int | None:
    number = _number(value)
    if number is None:
        return None
    if not number.is_integer():
        raise ValueError("not a whole number")
    return int(number)


def escape(text: str, keep: str = "") -> str:
    """Return ``text`` with unprintable characters, except those in ``keep``, escaped as in Python.

    A terminal would obey escape sequences.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text)


def sanitize(text: str, max_length: int = _MAX_QUOTE) -> str:
    """Return ``text`` from another program for a message: one printable line, without secrets.

    Line breaks, escape sequences, bidirectional controls, and lone surrogates become spaces.
    """
    import re

    visible = text[: 4 * max_length]
    if not visible.isprintable():
        visible = "".join(c if c.isprintable() else " " for c in visible)
    hidden = re.sub(_SECRETS, "<hidden>", visible)
    if "@" in hidden:
        hidden = re.sub(_LOGIN_IN_URL, r"\1<hidden>", hidden)
        login = re.compile(_LOGIN)
        hidden = re.sub(_WORD_BEFORE_AT, lambda word: login.sub("<hidden>", word[0]), hidden)
    clean = " ".join(hidden.split())
    return clean if len(clean) <= max_length else clean[:max_length] + "…"
