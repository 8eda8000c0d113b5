"""The search for recorded requests, for the page and the API."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .._machine.identities import Identity
    from .._state.request_log import RecordedRequest

STATUSES: Mapping[str, str] = {
    "": "Any status",
    "2xx": "2xx",
    "failed": "Failed",
    "4xx": "4xx",
    "5xx": "5xx",
    "none": "No response",
}
_STATUS = re.compile(r"failed|none|[2-5]xx|[2-5]\d\d|")


class Selection(NamedTuple):
    """The requests of one page, newest first.

    ``matched`` counts all that match, and ``start`` those before the page. ``newer`` and ``older``
    are the values of ``before`` for the next pages; 0 is the first page, None no page.
    """

    rows: Sequence[RecordedRequest]
    matched: int
    start: int
    newer: int | None
    older: int | None


@dataclass(frozen=True, slots=True)
class RequestFilter:
    """Selects requests that have all words, a status and a category; ValueError if not valid."""

    search: str = ""
    status: str = ""
    category: str = ""
    before: int = 0

    def __post_init__(self) -> None:
        if not _STATUS.fullmatch(self.status):
            raise ValueError(
                f"status must be a number from 200, 2xx, 4xx, 5xx, failed or none, "
                f"not {self.status!r}."
            )

    @property
    def active(self) -> bool:
        """Whether it excludes requests."""
        return bool(self.search.strip() or self.status or self.category)

    def matching(
        self, records: Iterable[RecordedRequest], names: Mapping[str, str]
    ) -> list[RecordedRequest]:
        """Return the requests that match; ``names`` has names of identities by id."""
        words = self.search.lower().split()
        found = [record for record in records if self._has_kind(record)]
        if not words:
            return found
        return [record for record in found if all(map(_text(record, names).__contains__, words))]

    def select(
        self, records: Sequence[RecordedRequest], names: Mapping[str, str], limit: int
    ) -> Selection:
        """Return a page of at most ``limit`` of the requests that match."""
        found = self.matching(reversed(records), names)
        start = sum(record.number >= self.before for record in found) if self.before else 0
        rows = found[start : start + limit]
        newer = None
        if start:
            newer = found[start - limit - 1].number if start > limit else 0
        older = rows[-1].number if start + limit < len(found) else None
        return Selection(rows, len(found), start, newer, older)

    def _has_kind(self, record: RecordedRequest) -> bool:
        if self.category and record.category != self.category:
            return False
        if self.status == "failed":
            return not 200 <= record.status < 300
        if self.status == "none":
            return record.status == 0
        return str(record.status).startswith(self.status.rstrip("x"))


def names_of(identities: Iterable[Identity]) -> dict[str, str]:
    """Return the names of identities by each of their ids, in lower case."""
    names = {}
    for identity in identities:
        resource_id = getattr(identity, "resource_id", "")
        name = resource_id.rpartition("/")[2] or "system-assigned"
        for each in filter(None, (identity.client_id, identity.object_id, resource_id)):
            names[each.lower()] = name
    return names


def _text(record: RecordedRequest, names: Mapping[str, str]) -> str:
    parts = (
        record.method,
        record.target,
        record.path,
        str(record.status),
        record.category,
        record.client,
        record.resource,
        record.identity,
        names.get(record.identity.lower(), ""),
        record.note,
        record.body,
        record.answer,
        *record.headers.values(),
        *record.response_headers.values(),
    )
    return "\n".join(parts).lower()
