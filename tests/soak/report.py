"""The report of a soak: counts of calls and faults, and violations, which must be zero."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from . import call_checker, forked_children, tokens, watch
from .growth import excesses, measure_growth
from .service import TRAPPED
from .worker import FILES_LEFT_OPEN, THREADS_LEFT

if TYPE_CHECKING:
    from .growth import Sample

SILENT = "processes that wrote no events"
NOT_ENDED = "processes that did not end"
STRAY = "stray processes at the end"
GREW = "processes that grew"
RULES = (
    watch.HUNG, forked_children.HUNG_CHILD, SILENT, NOT_ENDED, tokens.EXPIRED, tokens.WRONG_TOKEN,
    tokens.INVALID, tokens.REVOKED, call_checker.UNDOCUMENTED, call_checker.LEAKED,
    forked_children.DIED, TRAPPED, THREADS_LEFT, FILES_LEFT_OPEN, STRAY, GREW,
)  # fmt: skip
_MAX_DETAILS = 3


class Report:
    """Collects the counts and violations of all processes."""

    def __init__(self) -> None:
        self._by_process: dict[int, Counter[str]] = {}
        self._counts: Counter[str] = Counter()
        self._longest = 0.0
        self.violations: dict[str, list[str]] = {rule: [] for rule in RULES}
        self.growth: list[tuple[int, Sample, Sample]] = []

    @property
    def failed(self) -> bool:
        return any(self.violations.values())

    def set_counts(self, pid: int, counts: dict[str, int], longest: float) -> None:
        """Replace the counts of a process, which it counts from its start."""
        self._by_process[pid] = Counter(counts)
        self._longest = max(self._longest, longest)

    def count(self, event: str) -> None:
        self._counts[event] += 1

    def add_violation(self, rule: str, detail: str) -> None:
        self.violations[rule].append(detail)

    def check_growth(self, pid: int, samples: list[Sample]) -> None:
        """Check whether a long-lived process grew."""
        growth = measure_growth(samples)
        if growth is None:
            return
        self.growth.append((pid, *growth))
        for excess in excesses(*growth):
            self.add_violation(GREW, f"{pid}: {excess}")

    def text(self) -> str:
        return "\n".join((*self._count_lines(), *self._growth_lines(), *self._violation_lines()))

    def _count_lines(self) -> list[str]:
        total = sum(self._by_process.values(), self._counts)
        lines = [f"{times:>10,}  {event}" for event, times in sorted(total.items())]
        return [*lines, f"{self._longest:>10.1f}  seconds of the longest call"]

    def _growth_lines(self) -> list[str]:
        return [
            f"process {pid}: threads {a.threads:.0f} to {b.threads:.0f}, descriptors "
            f"{a.descriptors:.0f} to {b.descriptors:.0f}, MiB {a.memory:.1f} to {b.memory:.1f}"
            for pid, a, b in self.growth
        ]

    def _violation_lines(self) -> list[str]:
        lines = ["", "Must be zero:"]
        for rule, details in self.violations.items():
            lines.append(f"{len(details):>10,}  {rule}")
            kinds = Counter(_last_line(detail) for detail in details)
            for kind, times in kinds.most_common(_MAX_DETAILS):
                lines.append(f"{'':12}{times} x {kind}")
        return lines


def _last_line(detail: str) -> str:
    """Return the last line of a detail, which identifies an exception best."""
    return detail.strip().splitlines()[-1][:160] if detail.strip() else "no details"
