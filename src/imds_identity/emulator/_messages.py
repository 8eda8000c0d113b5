"""HTTP requests and responses as values, without I/O."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeAlias

    Pairs: TypeAlias = tuple[tuple[str, str], ...]

_MAX_PARAMETERS = 100


class BadTargetError(ValueError):
    """The request target is neither a path nor a URL, or has too many query parameters."""


def _first(pairs: Pairs, name: str) -> str | None:
    for key, value in pairs:
        if key == name:
            return value
    return None


@functools.lru_cache(maxsize=256)  # clients send the same few targets again and again
def _parse_target(target: str) -> tuple[str, Pairs]:
    if target.startswith("//"):  # MSAL for Java appends a path with a slash to a URL with one
        target = "/" + target.lstrip("/")
    try:
        parts = urlsplit(target)  # a client with a proxy sends a whole URL
        query = parse_qsl(parts.query, keep_blank_values=True, max_num_fields=_MAX_PARAMETERS)
    except ValueError as error:
        raise BadTargetError("The request target is malformed.") from error
    path = unquote(parts.path)
    if len(path) > 1:  # Azure's JavaScript client sends a trailing slash
        path = path.rstrip("/") or "/"
    return path, tuple(query)


@dataclass(frozen=True, slots=True)
class Request:
    """A request with its body; header names are in lower case."""

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
        """Parse a request target; BadTargetError if it is malformed."""
        path, query = _parse_target(target)
        return cls(method, target, path, query, tuple(headers), body, peer)

    def form(self) -> dict[str, str]:
        """Return the fields of the form in the body; empty if it is not a form."""
        try:
            return dict(parse_qsl(self.body.decode(), max_num_fields=_MAX_PARAMETERS))
        except ValueError:
            return {}

    def header(self, name: str) -> str | None:
        """Return the first header field with this lower-case name."""
        return _first(self.headers, name)

    def header_values(self, name: str) -> list[str]:
        """Return all header fields with this lower-case name."""
        return [value for key, value in self.headers if key == name]

    def parameter(self, name: str) -> str | None:
        """Return the first query parameter with this name."""
        return _first(self.query, name)

    def repeated_parameter(self) -> str | None:
        """Return the name of a query parameter that occurs more than once."""
        names = [name for name, _ in self.query]
        if len(set(names)) == len(names):
            return None
        return next((name for at, name in enumerate(names) if name in names[:at]), None)

    def bearer_token(self) -> str | None:
        """Return the bearer token of the Authorization header."""
        scheme, _, token = (self.header("authorization") or "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" and token.strip() else None


@dataclass(frozen=True, slots=True)
class Delivery:
    """How a response is sent, if not immediately and completely; times are in seconds."""

    delay: float = 0.0
    slow_body: float = 0.0  # the time over which the body is sent
    truncate: int | None = None  # bytes of the body after which the connection closes
    reset: bool = False
    no_answer: bool = False
    close: bool = False  # close the connection after the response
    date_skew: float = 0.0  # added to the Date header


IMMEDIATE = Delivery()


@dataclass(frozen=True, slots=True)
class Response:
    """A response; ``finished`` gets all its headers once it has been sent or given up."""

    status: int
    body: bytes = b""
    content_type: str = "application/json; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)
    delivery: Delivery = IMMEDIATE
    finished: Callable[[Mapping[str, str]], None] | None = None

    def finishing(self, finished: Callable[[Mapping[str, str]], None]) -> Response:
        """Return this response with another ``finished``, faster than `dataclasses.replace`."""
        return Response(
            self.status, self.body, self.content_type, self.headers, self.delivery, finished
        )


_encode = json.JSONEncoder(separators=(",", ":"), sort_keys=True).encode


def json_response(
    status: int, document: object, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a JSON response, its keys sorted as the metadata service does."""
    return Response(status, _encode(document).encode(), headers=headers or {})


def text_response(status: int, text: str) -> Response:
    """Return a plain-text response."""
    return Response(status, text.encode(), content_type="text/plain; charset=utf-8")
