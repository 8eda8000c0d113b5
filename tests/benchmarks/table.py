"""The figures in README: the rows of its table, and the bars of its chart."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from figures import AZURE_IDENTITY, figure_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from figures import Figures

MANY_THREADS = "16 processes x 8 threads x 1 resources"
MANY_RESOURCES = "60 processes x 1 threads x 12 resources"
THROTTLED, FAILED = "throttled requests", "failed processes"
MANY_AT_ONCE = "300 resources at once"
REQUESTS_AT_ONCE, FAILED_CALLS = "requests at once", "failed calls"
HEAD = "| | azure-identity | imds-identity |\n|---|---|---|"


class Pair(NamedTuple):
    """A measured value of this package and of azure-identity."""

    ours: float
    theirs: float

    @property
    def ratio(self) -> float:
        """Return this package's value in units of azure-identity's."""
        return self.ours / self.theirs

    @property
    def fraction(self) -> str:
        """Return the ratio as a fraction, such as 1/52."""
        return f"1/{self.theirs / self.ours:.0f}"


class Bar(NamedTuple):
    """Two bars of the chart: their label, the values as text, and the values."""

    label: str
    ours: str
    theirs: str
    pair: Pair


def pair(figures: Figures, measurement: str) -> Pair:
    """Return one figure; raise KeyError if it was not measured."""
    return Pair(*figures[figure_name(measurement, AZURE_IDENTITY)])


def rows(figures: Figures) -> Iterator[str]:
    """Yield the rows of README's table, in Markdown."""
    threads, tasks = (pair(figures, f"requests of 64 {kind}") for kind in ("threads", "tasks"))
    yield _row(
        "64 concurrent threads or tasks, each with its own credential",
        _requests(min(threads.theirs, tasks.theirs)),
        _requests(max(threads.ours, tasks.ours)),
    )
    for label, measurement in (
        ("16 concurrent processes with 8 threads each", MANY_THREADS),
        ("60 concurrent processes that need tokens for 12 resources", MANY_RESOURCES),
    ):
        ours, theirs = _process_results(figures, measurement)
        yield _row(label, theirs, ours)
    yield _row("300 concurrent threads, each with its own resource", *_resources(figures))
    time = pair(figures, "import and construct")
    memory = pair(figures, "import and construct, peak memory")
    yield _row(
        "Import and construction", "1",
        f"{time.ratio:.2f} of the time, {memory.ratio:.2f} of the memory",
    )  # fmt: skip
    off, shared = (pair(figures, f"first token, {kind}") for kind in ("cache off", "shared cache"))
    yield _row(
        "First token, fetched from the service", "1",
        f"{off.ratio:.2f} of the time; {shared.ratio:.2f} with the shared token cache",
    )  # fmt: skip
    start = pair(figures, "start to token, warm cache")
    yield _row(
        "New process, token in the shared cache", "1",
        f"{start.ratio:.2f} of the time, and no request",
    )  # fmt: skip
    sync, aio = (pair(figures, f"cached get_token, {kind}") for kind in ("sync", "aio"))
    yield _row(
        "A cached `get_token`", "1", f"{sync.fraction} of the time sync, {aio.fraction} async"
    )


def replace_table(page: str, table: str) -> str:
    """Return ``page`` with its table of figures replaced."""
    return re.sub(rf"{re.escape(HEAD)}(\n\|.*)+", lambda _: table, page)


def bars(figures: Figures) -> Iterator[Bar]:
    """Yield the bars of the chart, each half ordered by difference."""
    for label, measurement in (
        ("16 processes, 8 threads each", MANY_THREADS),
        ("60 processes, 12 resources", MANY_RESOURCES),
        ("64 threads", "requests of 64 threads"),
    ):
        one = pair(figures, measurement)
        yield Bar(label, _requests(one.ours), _requests(one.theirs), one)
    for label, measurement, unit in (
        ("A cached get_token", "cached get_token, sync", "µs"),
        ("A cached get_token, async", "cached get_token, aio", "µs"),
        ("Import and construction", "import and construct", "ms"),
        ("Peak memory after it", "import and construct, peak memory", "MiB"),
        ("New process, warm cache", "start to token, warm cache", "ms"),
        ("First token, no shared cache", "first token, cache off", "ms"),
    ):
        one = pair(figures, measurement)
        yield Bar(label, _measure(one.ours, unit), _measure(one.theirs, unit), one)


def _row(label: str, theirs: str, ours: str) -> str:
    return f"| {label} | {theirs} | {ours} |"


def _process_results(figures: Figures, measurement: str) -> list[str]:
    """Describe requests, throttling and failures: of this package, then of azure-identity."""
    requests = pair(figures, measurement)
    throttled, failed = (pair(figures, f"{measurement}, {kind}") for kind in (THROTTLED, FAILED))
    return [
        f"{_requests(requests[side])}, {throttled[side]:,.0f} throttled; "
        f"{failed[side]:.0f} processes fail"
        for side in (0, 1)
    ]


def _resources(figures: Figures) -> Iterator[str]:
    """Describe the process with 300 resources: of azure-identity, then of this package."""
    kinds = (REQUESTS_AT_ONCE, "threads", "open files", "seconds", FAILED_CALLS)
    pairs = [pair(figures, f"{MANY_AT_ONCE}, {kind}") for kind in kinds]
    for side in (1, 0):
        at_once, threads, files, seconds, failed = (each[side] for each in pairs)
        yield (
            f"{at_once:.0f} requests at once, {threads:.0f} more threads, {files:.0f} open files, "
            f"{seconds:.0f} s; {failed:.0f} calls fail"
        )


def _requests(count: float) -> str:
    return f"{count:,.0f} request{'s' * (count != 1)}"


def _measure(value: float, unit: str) -> str:
    return f"{value:.2g} {unit}" if value < 10 else f"{value:.0f} {unit}"
