"""The figures that README shows: rows of its table, and bars of its picture."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from report import AZURE_IDENTITY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from report import Figures

MANY_THREADS = "16 processes x 8 threads x 1 resources"
MANY_RESOURCES = "60 processes x 1 threads x 12 resources"
REFUSED, FAILED = "requests refused", "processes failed"
HEAD = "| | azure-identity | imds-identity |\n|---|---|---|"


class Pair(NamedTuple):
    """What either side took."""

    ours: float
    theirs: float

    @property
    def ratio(self) -> float:
        """Ours, where theirs is 1."""
        return self.ours / self.theirs

    @property
    def fraction(self) -> str:
        """Theirs in ours, as a fraction."""
        return f"1/{self.theirs / self.ours:.0f}"


class Bar(NamedTuple):
    """A line of the picture: what was measured, how the sides are called, and their values."""

    what: str
    ours: str
    theirs: str
    pair: Pair


def pair(figures: Figures, what: str, beside: str = AZURE_IDENTITY) -> Pair:
    """What was measured of one thing.

    Raises:
        KeyError: if it was not.
    """
    return Pair(*figures[f"{what}, beside {beside}"])


def rows(figures: Figures) -> Iterator[str]:
    """The rows of README's table, in Markdown."""
    threads, tasks = (pair(figures, f"requests of 64 {kind}") for kind in ("threads", "tasks"))
    yield _row(
        "64 threads, or 64 tasks, with a credential each ask at once",
        _requests(min(threads.theirs, tasks.theirs)),
        _requests(max(threads.ours, tasks.ours)),
    )
    for what, run_processes in (
        ("16 processes of 8 threads ask at once", MANY_THREADS),
        ("60 processes ask for 12 resources", MANY_RESOURCES),
    ):
        ours, theirs = _crowd(figures, run_processes)
        yield _row(what, theirs, ours)
    time = pair(figures, "import and construct")
    memory = pair(figures, "import and construct, peak memory")
    yield _row(
        "Import and construction", "1",
        f"{time.ratio:.2f} of the time, {memory.ratio:.2f} of the memory",
    )  # fmt: skip
    alone, shared = (pair(figures, f"first token, {how}") for how in ("alone", "shared"))
    yield _row(
        "First token over the network, alone", "1",
        f"{alone.ratio:.2f} of the time; {shared.ratio:.2f} with the cache that processes share",
    )  # fmt: skip
    start = pair(figures, "start to token, warm cache")
    yield _row(
        "New process, token already on the machine", "1",
        f"{start.ratio:.2f} of the time, and no request",
    )  # fmt: skip
    sync, aio = (pair(figures, f"cached get_token, {kind}") for kind in ("sync", "aio"))
    yield _row(
        "A cached `get_token`", "1", f"{sync.fraction} of the time sync, {aio.fraction} async"
    )


def put_into(page: str, table: str) -> str:
    """A page with this table in place of the one that it has."""
    return re.sub(rf"{re.escape(HEAD)}(\n\|.*)+", lambda _: table, page)


def bars(figures: Figures) -> Iterator[Bar]:
    """The bars of the picture, the widest difference first in each half."""
    for what, measured in (
        ("16 processes of 8 threads", MANY_THREADS),
        ("60 processes, 12 resources", MANY_RESOURCES),
        ("64 threads", "requests of 64 threads"),
    ):
        one = pair(figures, measured)
        yield Bar(what, _requests(one.ours), _requests(one.theirs), one)
    for what, measured, unit in (
        ("A cached get_token", "cached get_token, sync", "µs"),
        ("The same, async", "cached get_token, aio", "µs"),
        ("Import and construction", "import and construct", "ms"),
        ("Memory after it", "import and construct, peak memory", "MiB"),
        ("A new process, warm cache", "start to token, warm cache", "ms"),
        ("A first token, alone", "first token, alone", "ms"),
    ):
        one = pair(figures, measured)
        yield Bar(what, _measure(one.ours, unit), _measure(one.theirs, unit), one)


def _row(what: str, theirs: str, ours: str) -> str:
    return f"| {what} | {theirs} | {ours} |"


def _crowd(figures: Figures, run_processes: str) -> list[str]:
    """What either side of a crowd met with, ours first."""
    requests = pair(figures, run_processes)
    refused, failed = (pair(figures, f"{run_processes}, {kind}") for kind in (REFUSED, FAILED))
    return [
        f"{_requests(requests[side])}, {refused[side]:,.0f} refused; "
        f"{failed[side]:.0f} processes fail"
        for side in (0, 1)
    ]


def _requests(count: float) -> str:
    return f"{count:,.0f} request{'s' * (count != 1)}"


def _measure(value: float, unit: str) -> str:
    return f"{value:.2g} {unit}" if value < 10 else f"{value:.0f} {unit}"
