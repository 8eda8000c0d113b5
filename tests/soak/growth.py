"""Leaks in long-lived processes: their threads, descriptors and memory, measured from outside."""

from __future__ import annotations

import os
from typing import NamedTuple

from imds_identity._token_cache.flight import LONGEST_EXCHANGE

_WARM_UP = 0.3
_WINDOW = 0.2


class Sample(NamedTuple):
    """The size of a process at one moment; memory in MiB."""

    threads: float
    descriptors: float
    memory: float


TOLERANCE = Sample(threads=10, descriptors=8, memory=12)
"""More than random variation: a dozen threads, tens of descriptors and a hundred MiB are normal."""


def sample_process(pid: int) -> Sample | None:
    """Return a process's current size, or None if it has ended."""
    try:
        with open(f"/proc/{pid}/status") as file:
            status = dict(line.split(":", 1) for line in file if ":" in line)
        return Sample(
            threads=float(status["Threads"]),
            descriptors=len(os.listdir(f"/proc/{pid}/fd")),
            memory=float(status["VmRSS"].split()[0]) / 1024,
        )
    except (OSError, KeyError):
        return None


def measure_growth(samples: list[Sample]) -> tuple[Sample, Sample] | None:
    """Return the minimum after the warm-up and at the end, or None if there are too few samples.

    A leak never shrinks, so the minimum of a window shows it. A delayed fetch ends, and a window is
    no shorter than the longest exchange, so no delayed fetch raises the minimum.

    Args:
        samples: one per second.
    """
    start, width = int(len(samples) * _WARM_UP), int(len(samples) * _WINDOW)
    width = max(width, int(LONGEST_EXCHANGE))
    if len(samples) < start + 2 * width:
        return None
    return _minimum(samples[start : start + width]), _minimum(samples[-width:])


def excesses(before: Sample, after: Sample) -> list[str]:
    """Describe each size that grew beyond the tolerance."""
    return [
        f"{name}: {old:.0f} to {new:.0f}"
        for name, old, new, tolerance in zip(Sample._fields, before, after, TOLERANCE, strict=True)
        if new - old > tolerance
    ]


def _minimum(samples: list[Sample]) -> Sample:
    return Sample(*(min(column) for column in zip(*samples, strict=True)))
