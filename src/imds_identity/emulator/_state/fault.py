"""The definition of a fault: its effects, and the requests that it applies to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from .._field_types import named_attributes, validate_fields
from .._messages import Delivery, Response, json_response

EVERY_CATEGORY = "*"
CATEGORIES = (
    "identity", "instance", "versions", "attested", "loadbalancer", "scheduledevents",
    "key-vault", "openid", "certificates", "entra", "registry",
)  # fmt: skip
OTHER_SERVICES = frozenset({"certificates", "entra", "key-vault", "openid", "registry"})
"""The categories of services outside the machine, which neither its limits nor its agent see."""
DOCUMENTS = (
    "tampered", "expired", "wrong-name", "wrong-nonce", "decoy-signer", "unknown-root", "classic",
    "without-compute", "without-network",
)  # fmt: skip
_LEGS = ("challenge", "answer")


@named_attributes
@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault to inject. Its effects can be combined.

    The first attributes select requests, the others are its effects.

    Attributes:
        category: the category of requests it applies to; ``*`` for all categories.
        times: how many requests it applies to; None for no limit.
        after: how many matching requests it skips first.
        probability: the probability, from 0 to 1, that it applies to a matching request.
        seconds: how long it lasts from the moment it is set, by the emulator's clock.
        leg: on Arc, ``challenge`` for requests without a secret, ``answer`` for those with one.
        status: the HTTP status to send.
        retry_after: the Retry-After header, in seconds or as text.
        denied: respond as the agent of the Metadata Security Protocol denies a request: no body,
            a closed connection and status 403, unless ``status`` is another one.
        headers: additional header fields: a mapping, or lines of ``Name: value``.
        body: the body to send.
        content_type: the Content-Type header to send.
        delay: seconds to wait before sending anything.
        slow_body: seconds over which the body is sent.
        truncate: number of bytes of the body after which the connection is closed.
        reset: reset the connection and send no response.
        no_answer: never send a response.
        date_skew: seconds added to the Date header.
        token_lifetime: seconds until the returned token expires; zero or less for an expired one.
        document: the defect of an attested document: ``tampered``, ``expired``, ``wrong-name``,
            ``wrong-nonce``, ``decoy-signer`` (signed with another key, but accompanied by the
            right signer's certificate), ``unknown-root`` or ``classic`` (of a classic VM: only
            vmId and nonce have values); or of the instance document: ``without-compute`` or
            ``without-network``, unless the request has ``extended=true``, which then fails.

    Raises:
        ValueError: if an attribute is not valid; the message names it.
    """

    category: str = "identity"
    times: int | None = None
    after: int = 0
    probability: float = 1.0
    seconds: float | None = None
    leg: str | None = None
    status: int | None = None
    retry_after: float | str | None = None
    denied: bool = False
    headers: Mapping[str, str] | str | None = None
    body: bytes | str | None = None
    content_type: str | None = None
    delay: float = 0.0
    slow_body: float = 0.0
    truncate: int | None = None
    reset: bool = False
    no_answer: bool = False
    date_skew: float = 0.0
    token_lifetime: float | None = None
    document: str | None = None

    def __post_init__(self) -> None:
        validate_fields(self, "A fault's ")
        object.__setattr__(self, "headers", self.header_fields() or None)
        self._check_headers(self.header_fields())
        if self.category != EVERY_CATEGORY and self.category not in CATEGORIES:
            raise ValueError(
                f"A fault's category must be one of {', '.join(CATEGORIES)} or *, "
                f"not {self.category!r}."
            )
        if self.leg is not None and self.leg not in _LEGS:
            raise ValueError(f"A fault's leg must be challenge or answer, not {self.leg!r}.")
        self._check_numbers()
        if not self.effects():
            raise ValueError("This fault has no effect: set a status, a delay or another effect.")

    def _check_numbers(self) -> None:
        if self.document is not None and self.document not in DOCUMENTS:
            known = ", ".join(DOCUMENTS)
            raise ValueError(f"A fault's document must be one of {known}, not {self.document!r}.")
        if self.status is not None and not 200 <= self.status <= 599:
            raise ValueError(f"A fault's status must be between 200 and 599, not {self.status}.")
        if not 0 <= self.probability <= 1:
            raise ValueError(
                f"A fault's probability must be between 0 and 1, not {self.probability}."
            )
        for name in ("times", "after", "seconds", "delay", "slow_body", "truncate"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"A fault's {name} cannot be negative: {value}.")
        if self.times == 0:
            raise ValueError("A fault's times cannot be 0, because it would never apply.")

    def header_fields(self) -> Mapping[str, str]:
        """Return the additional header fields."""
        if isinstance(self.headers, str):
            lines = [line.partition(":") for line in self.headers.splitlines() if line.strip()]
            if not all(colon for _, colon, _ in lines):
                raise ValueError(
                    f"A fault's headers must be lines of Name: value, not {self.headers!r}."
                )
            return {name.strip(): value.strip() for name, _, value in lines}
        return self.headers or {}

    def _check_headers(self, headers: Mapping[str, str]) -> None:
        sent: dict[str, object] = {**headers, "Content-Type": self.content_type or ""}
        sent.setdefault("Retry-After", self.retry_after)
        if {str(name).lower() for name in sent} & _FRAMING:
            raise ValueError(
                "A fault's headers cannot change the framing; to cut off a response, use truncate."
            )
        for name, text in sent.items():
            if not _HEADER_NAME.fullmatch(str(name)) or not _HEADER_VALUE.fullmatch(str(text)):
                raise ValueError(f"A fault's headers cannot include {name!r}: {text!r}.")

    def effects(self) -> dict[str, Any]:
        """Return its effects, by attribute name."""
        return {
            name: getattr(self, name)
            for name in _EFFECTS
            if getattr(self, name) is not None and getattr(self, name) is not False
            if name not in _NO_EFFECT_IF_ZERO or getattr(self, name)
        }

    def describe(self) -> str:
        """Return its effects as one line of text."""
        parts = []
        for name, value in self.effects().items():
            if name in {"body", "headers"}:
                parts.append(name)
            else:
                parts.append(name if value is True else f"{name}={value}")
        return " ".join(parts)

    @property
    def missing_part(self) -> str:
        """The part that the instance document lacks; empty if it lacks none."""
        return (self.document or "").partition("without-")[2]

    def replaces_answer(self) -> bool:
        """Return whether it replaces the whole response, so that no endpoint must be called."""
        return self.status is not None or self.reset or self.no_answer or self.denied

    @property
    def close(self) -> bool:
        """Whether the connection is closed after the response."""
        return self.denied

    def applied_to(self, response: Response, category: str = "identity") -> Response:
        """Return the response to a request of a category with the effects of this fault."""
        base = response
        if self.denied:
            base = Response(403 if self.status is None else self.status)
        elif self.status is not None:
            base = json_response(self.status, _error_document(self.status, category))
        if self.body is not None:
            body = self.body.encode() if isinstance(self.body, str) else self.body
            base = replace(base, body=body)
        own = self.header_fields()
        overridden = {name.lower() for name in own}
        kept = {name: text for name, text in base.headers.items() if name.lower() not in overridden}
        headers = {**kept, **own}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        return replace(
            base,
            content_type=self.content_type or base.content_type,
            headers=headers,
            delivery=Delivery(**{each.name: getattr(self, each.name) for each in fields(Delivery)}),
            finished=response.finished,
        )


_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\x21-\x7e\xa0-\xff]?(?:[\t\x20-\x7e\xa0-\xff]*[\x21-\x7e\xa0-\xff])?")
_FRAMING = {"content-length", "transfer-encoding", "connection"}
_SELECTORS = {"category", "times", "after", "probability", "seconds", "leg"}
_NO_EFFECT_IF_ZERO = {"delay", "slow_body", "date_skew"}
_EFFECTS = tuple(field.name for field in fields(Fault) if field.name not in _SELECTORS)
# The error codes of identity responses in the published OpenAPI document, by status.
_ERROR_CODES = {
    400: "invalid_request", 401: "unauthorized_client", 403: "forbidden", 404: "not_found",
    405: "method_not_allowed", 410: "service_unavailable", 503: "service_unavailable",
}  # fmt: skip
_VAULT_ERRORS = {
    403: {
        "code": "Forbidden",
        "message": "Caller is not authorized to perform action on resource.",
        "innererror": {"code": "ForbiddenByRbac"},
    },
    429: {
        "code": "Throttled",
        "message": "Request was not processed because too many requests were received. "
        "Reason: VaultRequestTypeLimitReached",
    },
}
_OTHER_VAULT_ERROR = {"code": "Error", "message": "A fault set in the emulator."}
_THROTTLED = {  # as reported for IMDS, although its OpenAPI document has another code
    "error": "invalid_request",
    "error_description": "Temporarily throttled, too many requests",
}
# The codes of the OCI distribution specification.
_REGISTRY_CODES = {401: "UNAUTHORIZED", 403: "DENIED", 429: "TOOMANYREQUESTS"}


def registry_errors(code: str, message: str) -> dict[str, object]:
    """Return an error in the form of a container registry."""
    return {"errors": [{"code": code, "message": message}]}


def _error_document(status: int, category: str) -> Mapping[str, object]:
    if category == "key-vault":
        return {"error": _VAULT_ERRORS.get(status, _OTHER_VAULT_ERROR)}
    if category == "registry":
        code = _REGISTRY_CODES.get(status, "UNKNOWN")
        return registry_errors(code, f"A fault set in the emulator responds with {status}.")
    if status == 429:
        return _THROTTLED
    code = _ERROR_CODES.get(status, "server_error" if status >= 500 else "bad_request")
    return {
        "error": code,
        "error_description": f"A fault set in the emulator responds with {status}.",
    }
