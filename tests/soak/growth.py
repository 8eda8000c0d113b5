"""Whether a process that lives long grows: threads, descriptors and memory, seen from outside."""

from __future__ import annotations

import os
from typing import NamedTuple

from imds_identity._token_cache.flight import LONGEST_EXCHANGE

_WARM_UP = 0.3
_WINDOW = 0.2


class Sample(NamedTuple):
    """One look at a process; memory in MiB."""

    threads: float
    descriptors: float
    memory: float


ALLOWED = Sample(threads=10, descriptors=8, memory=12)
"""More than chance explains: of a dozen threads, of tens of descriptors, of a hundred MiB."""


def look(pid: int) -> Sample | None:
    """A process as it is now, or None if it has gone."""
    try:
        with open(f"/proc/{pid}/status") as file:
            facts = dict(line.split(":", 1) for line in file if ":" in line)
        return Sample(
            threads=float(facts["Threads"]),
            descriptors=len(os.listdir(f"/proc/{pid}/fd")),
            memory=float(facts["VmRSS"].split()[0]) / 1024,
        )
    except (OSError, KeyError):
        return None


def grown(samples: list[Sample]) -> tuple[Sample, Sample] | None:
    """The least after the warm-up and at the end, or None if a life was too short to tell.

    What leaks never goes away again. A fetch that is held up does, and leaves none behind that is
    seen all through a window: that is no shorter than the longest exchange.

    Args:
        samples: one a second.
    """
    start, width = int(len(samples) * _WARM_UP), int(len(samples) * _WINDOW)
    width = max(width, int(LONGEST_EXCHANGE))
    if len(samples) < start + 2 * width:
        return None
    return _least(samples[start : start + width]), _least(samples[-width:])


def excess(before: Sample, after: Sample) -> list[str]:
    """What has grown by more than is allowed."""
    return [
        f"{name}: {was:.0f} to {now:.0f}"
        for name, was, now, allowed in zip(Sample._fields, before, after, ALLOWED, strict=True)
        if now - was > allowed
    ]


def _least(samples: list[Sample]) -> Sample:
    return Sample(*(min(column) for column in zip(*samples, strict=True)))
