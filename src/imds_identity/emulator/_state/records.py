"""What was asked, and what was answered: a bounded memory without secrets."""

from __future__ import annotations

import logging
import re
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .._messages import Request, Response

_LOG = logging.getLogger(__name__)
HIDDEN = "(hidden)"
_SECRET_HEADERS = frozenset(
    {"authorization", "cookie", "proxy-authorization", "secret", "x-identity-header"}
)
_LONGEST_VALUE = 512
_LONGEST_TARGET = 2048
_LONGEST_ANSWER = 4096
_TOKEN = re.compile(r'("access_token"\s*:\s*")[^"]*')
_MOST_FIELDS = 40


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A request that was answered, without its secrets.

    Attributes:
        number: counts from 1.
        time: when it came, in Unix seconds by the emulator's clock.
        method: as sent.
        target: as sent.
        category: what it asked for: ``identity``, ``instance``, ``key-vault`` and so on.
        path: the target's path, decoded, without a trailing slash.
        query: the last value of each query parameter.
        headers: names in lower case; secrets are replaced by ``(hidden)``.
        status: the status sent; 0 when a fault sent none.
        client: the address that it came from.
        leg: on Arc, ``challenge`` for a request without a secret, ``answer`` for one with it.
        answer: the body sent, shortened, without tokens and secrets.
        note: what was peculiar about the answer, such as a fault; empty when nothing was.
        effects: what a fault or the limits did to the answer, by a fault's attributes.
        seconds: how long it took until the answer was sent; None while it is under way.
    """

    number: int
    time: float
    method: str
    target: str
    category: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    status: int
    client: str = ""
    leg: str = ""
    answer: str = ""
    note: str = ""
    effects: Mapping[str, Any] = field(default_factory=dict)
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """What was made of a request, beside its answer.

    Attributes:
        category: what it asked for.
        note: what was peculiar about the answer, such as a fault; empty when nothing was.
        effects: what a fault or the limits did to the answer, by a fault's attributes.
    """

    category: str
    note: str = ""
    effects: Mapping[str, Any] = field(default_factory=dict)


class RequestLog:
    """The latest requests.

    Args:
        size: how many are kept.
    """

    def __init__(self, size: int) -> None:
        self._records: deque[RecordedRequest] = deque(maxlen=size)
        self._count = 0
        self.listeners: list[Callable[[RecordedRequest], object]] = []

    def add(
        self, request: Request, response: Response, judged: Judged, time: float
    ) -> RecordedRequest:
        """Record one request, and how it was answered."""
        sent = not (response.delivery.reset or response.delivery.no_answer)
        self._count += 1
        record = RecordedRequest(
            self._count,
            time,
            request.method,
            request.target[:_LONGEST_TARGET],
            judged.category,
            request.path[:_LONGEST_TARGET],
            {
                key[:_LONGEST_VALUE]: value[:_LONGEST_VALUE]
                for key, value in request.query[:_MOST_FIELDS]
            },
            _without_secrets(request.headers),
            response.status if sent else 0,
            request.peer,
            leg_of(request),
            _without_tokens(response, judged.category) if sent else "",
            judged.note,
            judged.effects,
        )
        self._records.append(record)
        for listener in self.listeners:
            try:
                listener(record)
            except Exception:  # noqa: BLE001 - a listener's failure is not the client's
                _LOG.exception("A listener failed")
        return record

    def finish(self, record: RecordedRequest, seconds: float) -> None:
        """Note how long the answer to a request took."""
        index = record.number - self._count + len(self._records) - 1
        # After a reset its number is another's.
        if 0 <= index < len(self._records) and self._records[index] is record:
            self._records[index] = replace(record, seconds=seconds)

    def snapshot(self) -> list[RecordedRequest]:
        """The records, oldest first."""
        return list(self._records)

    def clear(self) -> None:
        """Forget them all and count from 1 again."""
        self._records.clear()
        self._count = 0


def leg_of(request: Request) -> str:
    """Which leg of Arc's challenge a request is."""
    return "challenge" if request.header("authorization") is None else "answer"


def _without_tokens(response: Response, category: str) -> str:
    if response.status < 400 and category == "key-vault":
        return HIDDEN
    body = response.body[: _LONGEST_ANSWER + 1]
    # A token is longer than what is kept, so it may lack its closing quote here.
    text = _TOKEN.sub(rf"\1{HIDDEN}", body.decode("utf-8", "replace"))
    return text if len(text) <= _LONGEST_ANSWER else text[:_LONGEST_ANSWER] + "…"


def _without_secrets(headers: tuple[tuple[str, str], ...]) -> dict[str, str]:
    kept = {}
    for name, value in headers[:_MOST_FIELDS]:
        kept[name[:_LONGEST_VALUE]] = HIDDEN if name in _SECRET_HEADERS else value[:_LONGEST_VALUE]
    return kept
