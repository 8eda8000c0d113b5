"""What was tried, what came of it, and the zeros."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from . import calls, children, tokens, watch
from .growth import excess, grown
from .service import TRAPPED
from .worker import LEFT_OPEN, LEFT_OVER

if TYPE_CHECKING:
    from .growth import Sample

SILENT = "processes that fell silent"
ENDLESS = "processes that did not end"
STRAY = "stray processes at the end"
GROWN = "processes that grew"
ZEROS = (
    watch.HUNG, children.HUNG_CHILD, SILENT, ENDLESS, tokens.EXPIRED, tokens.ANOTHERS,
    tokens.REFUSABLE, tokens.REVOKED, calls.FOREIGN, calls.SHOWN, children.DIED, TRAPPED,
    LEFT_OVER, LEFT_OPEN, STRAY, GROWN,
)  # fmt: skip
_SHOWN_DETAILS = 3


class Table:
    """Adds up what all processes say."""

    def __init__(self) -> None:
        self._by_process: dict[int, Counter[str]] = {}
        self._more: Counter[str] = Counter()
        self._longest = 0.0
        self.broken: dict[str, list[str]] = {rule: [] for rule in ZEROS}
        self.growth: list[tuple[int, Sample, Sample]] = []

    @property
    def failed(self) -> bool:
        return any(self.broken.values())

    def counted(self, pid: int, counts: dict[str, int], longest: float) -> None:
        """What a process has counted in its life."""
        self._by_process[pid] = Counter(counts)
        self._longest = max(self._longest, longest)

    def tried(self, what: str, times: int = 1) -> None:
        self._more[what] += times

    def broke(self, rule: str, detail: str) -> None:
        self.broken[rule].append(detail)

    def lived(self, pid: int, samples: list[Sample]) -> None:
        """Judge whether a lasting process has grown."""
        seen = grown(samples)
        if seen is None:
            return
        self.growth.append((pid, *seen))
        for words in excess(*seen):
            self.broke(GROWN, f"{pid}: {words}")

    def text(self) -> str:
        return "\n".join((*self._counts(), *self._growth(), *self._zeros()))

    def _counts(self) -> list[str]:
        total = sum(self._by_process.values(), self._more)
        lines = [f"{times:>10,}  {what}" for what, times in sorted(total.items())]
        return [*lines, f"{self._longest:>10.1f}  seconds that the longest call took"]

    def _growth(self) -> list[str]:
        return [
            f"process {pid}: threads {a.threads:.0f} to {b.threads:.0f}, descriptors "
            f"{a.descriptors:.0f} to {b.descriptors:.0f}, MiB {a.memory:.1f} to {b.memory:.1f}"
            for pid, a, b in self.growth
        ]

    def _zeros(self) -> list[str]:
        lines = ["", "Must be zero:"]
        for rule, details in self.broken.items():
            lines.append(f"{len(details):>10,}  {rule}")
            kinds = Counter(_kind(detail) for detail in details)
            for kind, times in kinds.most_common(_SHOWN_DETAILS):
                lines.append(f"{'':12}{times} x {kind}")
        return lines


def _kind(detail: str) -> str:
    """The line of a detail that tells it from others."""
    return detail.strip().splitlines()[-1][:160] if detail.strip() else "nothing said"
