"""A fault: what goes wrong, on which requests, and for how long."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from .._kinds import check_fields
from .._messages import Delivery, Response, json_response

EVERY_CATEGORY = "*"
CATEGORIES = (
    "identity",
    "instance",
    "versions",
    "attested",
    "loadbalancer",
    "scheduledevents",
    "key-vault",
    "openid",
    "certificates",
)
DOCUMENTS = (
    "tampered",
    "expired",
    "wrong-name",
    "wrong-nonce",
    "decoy-signer",
    "unknown-root",
)
_LEGS = ("challenge", "answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault. When it applies comes first, then what it does; effects may be combined.

    Attributes:
        category: the category of requests it applies to; ``*`` is all of them.
        times: how many requests it spoils; None is all until it is cleared.
        after: how many matching requests pass first.
        probability: the chance that a matching request is spoiled, from 0 to 1.
        seconds: how long it lasts from the moment it is set, by the emulator's clock; with
            ``times`` left out, every matching request in that time is spoiled.
        leg: on Arc, ``challenge`` for requests without a secret, ``answer`` for those with one.
        status: the status sent in place of the answer.
        retry_after: the Retry-After header, in seconds or as text.
        headers: further header fields.
        body: the body sent in place of the answer's.
        content_type: the Content-Type header in place of the right one.
        delay: seconds before anything is sent.
        slow_body: seconds over which the body trickles.
        truncate: bytes of the body after which the connection closes.
        reset: reset the connection in place of an answer.
        no_answer: never answer.
        date_skew: seconds added to the Date header.
        token_lifetime: seconds that are left of the token handed out; zero or less is expired.
        document: what is wrong with an attested document: ``tampered``, ``expired``,
            ``wrong-name``, ``wrong-nonce``, ``decoy-signer`` (another's signature beside the
            right signer's certificate) or ``unknown-root``.
    """

    category: str = "identity"
    times: int | None = None
    after: int = 0
    probability: float = 1.0
    seconds: float | None = None
    leg: str | None = None
    status: int | None = None
    retry_after: float | str | None = None
    headers: Mapping[str, str] | None = None
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
        """Refuse what could never apply or makes no sense, so that a slip is found at once."""
        check_fields(self, "A fault's ")
        self._check_headers()
        if self.category != EVERY_CATEGORY and self.category not in CATEGORIES:
            raise ValueError(
                f"No category is called {self.category!r}; use one of {', '.join(CATEGORIES)} or *."
            )
        if self.leg is not None and self.leg not in _LEGS:
            raise ValueError(f"A leg is 'challenge' or 'answer', not {self.leg!r}.")
        self._check_numbers()
        if not self.effects():
            raise ValueError(
                "This fault does nothing: give it a status, a delay or another effect."
            )

    def _check_numbers(self) -> None:
        if self.document is not None and self.document not in DOCUMENTS:
            known = ", ".join(DOCUMENTS)
            raise ValueError(f"A fault's document is one of {known}, not {self.document!r}.")
        if self.status is not None and not 200 <= self.status <= 599:
            raise ValueError(f"A fault's status lies between 200 and 599; {self.status} does not.")
        if not 0 <= self.probability <= 1:
            raise ValueError(f"A probability lies between 0 and 1; {self.probability} does not.")
        for name in ("times", "after", "seconds", "delay", "slow_body", "truncate"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"A fault's {name} cannot be negative; {value} is.")
        if self.times == 0:
            raise ValueError("A fault's times cannot be 0, for it would never apply.")

    def _check_headers(self) -> None:
        fields: dict[str, object] = {
            **(self.headers or {}),
            "Content-Type": self.content_type or "",
        }
        fields.setdefault("Retry-After", self.retry_after)
        if {str(name).lower() for name in fields} & _FRAMING:
            raise ValueError("A fault's headers cannot include framing; truncate breaks an answer.")
        for name, text in fields.items():
            if not _HEADER_NAME.fullmatch(str(name)) or not _HEADER_VALUE.fullmatch(str(text)):
                raise ValueError(f"A fault's headers cannot include {name!r}: {text!r}.")

    def effects(self) -> dict[str, Any]:
        """What it does, by attribute name."""
        return {
            name: getattr(self, name)
            for name in _EFFECTS
            if getattr(self, name) is not None and getattr(self, name) is not False
            if name not in _ZERO_IS_NOTHING or getattr(self, name)
        }

    def describe(self) -> str:
        """What it does in a few words."""
        parts = []
        for name, value in self.effects().items():
            if name in {"body", "headers"}:
                parts.append(name)
            else:
                parts.append(name if value is True else f"{name}={value}")
        return " ".join(parts)

    def replaces_answer(self) -> bool:
        """Whether the right answer is not needed, and must not be worked out."""
        return self.status is not None or self.reset or self.no_answer

    def applied_to(self, response: Response) -> Response:
        """The answer as this fault leaves it."""
        spoiled = self._replacement(response)
        own = self.headers or {}
        replaced = {name.lower() for name in own}
        kept = {
            name: text for name, text in spoiled.headers.items() if name.lower() not in replaced
        }
        headers = {**kept, **own}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        return Response(
            spoiled.status,
            spoiled.body,
            self.content_type or spoiled.content_type,
            headers,
            Delivery(
                self.delay,
                self.slow_body,
                self.truncate,
                self.reset,
                self.no_answer,
                self.date_skew,
            ),
            response.finished,
        )

    def _replacement(self, response: Response) -> Response:
        if self.status is not None:
            replacement = json_response(self.status, _error_document(self.status))
        else:
            replacement = response
        if self.body is None:
            return replacement
        body = self.body.encode() if isinstance(self.body, str) else self.body
        return Response(replacement.status, body, replacement.content_type, replacement.headers)


_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\x21-\x7e\xa0-\xff]?(?:[\t\x20-\x7e\xa0-\xff]*[\x21-\x7e\xa0-\xff])?")
_FRAMING = {"content-length", "transfer-encoding", "connection"}
_WHEN = {"category", "times", "after", "probability", "seconds", "leg"}
_ZERO_IS_NOTHING = {"delay", "slow_body", "date_skew"}
_EFFECTS = tuple(field.name for field in fields(Fault) if field.name not in _WHEN)
# The codes that the published OpenAPI lists for identity answers, by status.
_ERROR_CODES = {
    400: "invalid_request",
    401: "unauthorized_client",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    410: "service_unavailable",
    429: "too_many_requests",
    503: "service_unavailable",
}


def _error_document(status: int) -> dict[str, str]:
    code = _ERROR_CODES.get(status, "server_error" if status >= 500 else "bad_request")
    return {"error": code, "error_description": f"The emulator was told to answer {status}."}
