"""What was asked, and what was answered: a bounded memory without secrets."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._messages import Request, Response

_LOG = logging.getLogger(__name__)
HIDDEN = "(hidden)"
_SECRET_HEADERS = frozenset(
    {"authorization", "cookie", "proxy-authorization", "secret", "x-identity-header"}
)
_LONGEST_VALUE = 512
_LONGEST_TARGET = 2048
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
        refusal: the body of an answer that refuses, shortened; empty for any other.
        note: what was peculiar about the answer, such as a fault; empty when nothing was.
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
    refusal: str = ""
    note: str = ""


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
        self, request: Request, response: Response, category: str, time: float, note: str
    ) -> None:
        """Record one request, and how it was answered."""
        sent = not (response.delivery.reset or response.delivery.no_answer)
        # Answers that grant something hold tokens and secrets, so only refusals are kept.
        refused = sent and response.status >= 400
        refusal = response.body[:_LONGEST_VALUE].decode("utf-8", "replace") if refused else ""
        self._count += 1
        record = RecordedRequest(
            self._count,
            time,
            request.method,
            request.target[:_LONGEST_TARGET],
            category,
            request.path[:_LONGEST_TARGET],
            {
                key[:_LONGEST_VALUE]: value[:_LONGEST_VALUE]
                for key, value in request.query[:_MOST_FIELDS]
            },
            _without_secrets(request.headers),
            response.status if sent else 0,
            refusal,
            note,
        )
        self._records.append(record)
        for listener in self.listeners:
            try:
                listener(record)
            except Exception:  # noqa: BLE001 - a listener's failure is not the client's
                _LOG.exception("A listener failed")

    def snapshot(self) -> list[RecordedRequest]:
        """The records, oldest first."""
        return list(self._records)

    def clear(self) -> None:
        """Forget them all and count from 1 again."""
        self._records.clear()
        self._count = 0


def _without_secrets(headers: tuple[tuple[str, str], ...]) -> dict[str, str]:
    kept = {}
    for name, value in headers[:_MOST_FIELDS]:
        kept[name[:_LONGEST_VALUE]] = HIDDEN if name in _SECRET_HEADERS else value[:_LONGEST_VALUE]
    return kept
