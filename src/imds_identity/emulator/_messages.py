"""HTTP messages as the emulator's services see them: values, no I/O."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_MOST_QUERY_FIELDS = 100


class BadTargetError(ValueError):
    """The request target is no path and no URL, or its query is beyond reason."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request, complete with its body."""

    method: str
    target: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    peer: str = ""

    @classmethod
    def parse(
        cls,
        method: str,
        target: str,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        peer: str = "",
    ) -> Request:
        """Take a request line apart.

        Absolute-form targets are understood because clients behind a proxy setting send them, and
        a trailing slash is dropped because Azure's JavaScript client sends one.

        Args:
            method: the method, as sent.
            target: the request target, as sent: origin-form or absolute-form.
            headers: names in lower case, with values.
            body: the body, already free of its transfer coding.
            peer: the client's address, for the records.

        Returns:
            The request.

        Raises:
            BadTargetError: if the target cannot be taken apart.
        """
        try:
            parts = urlsplit(target)
            query = parse_qsl(
                parts.query, keep_blank_values=True, max_num_fields=_MOST_QUERY_FIELDS
            )
        except ValueError as error:
            raise BadTargetError("The request target is malformed.") from error
        path = unquote(parts.path)
        if len(path) > 1:
            path = path.rstrip("/") or "/"
        return cls(method, target, path, tuple(query), tuple(headers), body, peer)

    def header(self, name: str) -> str | None:
        """The first header field of that lower-case name."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    def header_values(self, name: str) -> list[str]:
        """Every header field of that lower-case name."""
        return [value for key, value in self.headers if key == name]

    def parameter(self, name: str) -> str | None:
        """The first query parameter of that name."""
        for key, value in self.query:
            if key == name:
                return value
        return None

    def repeated_parameter(self) -> str | None:
        """The name of a query parameter that was given more than once."""
        seen = set()
        for key, _ in self.query:
            if key in seen:
                return key
            seen.add(key)
        return None

    def bearer_token(self) -> str | None:
        """What follows ``Bearer`` in the Authorization header."""
        scheme, _, token = (self.header("authorization") or "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" and token.strip() else None


@dataclass(frozen=True, slots=True)
class Delivery:
    """How an answer travels, where that is not simply at once and whole.

    Attributes:
        delay: seconds before anything is sent.
        slow_body: seconds over which the body trickles.
        truncate: bytes of the body after which the connection closes; None sends them all.
        reset: the connection is reset in place of an answer.
        no_answer: nothing is ever sent.
        date_skew: seconds added to the Date header.
    """

    delay: float = 0.0
    slow_body: float = 0.0
    truncate: int | None = None
    reset: bool = False
    no_answer: bool = False
    date_skew: float = 0.0


AT_ONCE = Delivery()


@dataclass(frozen=True, slots=True)
class Response:
    """One answer, with how it is to travel."""

    status: int
    body: bytes = b""
    content_type: str = "application/json; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)
    delivery: Delivery = AT_ONCE
    finished: Callable[[], None] | None = None


def json_response(status: int, document: Any, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer, its keys in alphabetical order as the metadata service has them."""
    body = json.dumps(document, separators=(",", ":"), sort_keys=True).encode()
    return Response(status, body, headers=headers or {})


def text_response(status: int, text: str) -> Response:
    """A plain-text answer."""
    return Response(status, text.encode(), content_type="text/plain; charset=utf-8")
