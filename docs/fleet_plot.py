"""Draw the charts of fleet.md with matplotlib, for light and dark backgrounds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from fleet import (
    DAY,
    FIRST_WAVE,
    FLEET_SIZES,
    LIMITED_CAPACITY,
    MINUTE,
    REFRESH_INTERVAL,
    SAMPLE,
    Fleet,
    Outage,
    outage,
    peak,
    refreshes,
)

mpl.use("svg")
import matplotlib.pyplot as plt

if TYPE_CHECKING:
    from pathlib import Path

ORANGE, BLUE, GRAY = "#d9730d", "#2f81f7", "#808080"
LABELS = {False: "no jitter", True: "jitter"}
COLORS = {False: ORANGE, True: BLUE}
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fleet",
    "font.family": "sans-serif",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GRAY,
    "axes.labelcolor": GRAY,
    "axes.titlecolor": GRAY,
    "axes.titlesize": 11,
    "text.color": GRAY,
    "xtick.color": GRAY,
    "ytick.color": GRAY,
    "legend.frameon": False,
    "grid.color": GRAY,
    "grid.alpha": 0.25,
    "axes.grid": True,
}


def draw(folder: Path) -> None:
    """Write each chart to ``folder``."""
    unlimited = {jitter: outage(Fleet(SAMPLE, jitter=jitter)) for jitter in LABELS}
    limited = {
        jitter: outage(Fleet(SAMPLE, jitter=jitter), capacity=LIMITED_CAPACITY) for jitter in LABELS
    }
    with mpl.rc_context(STYLE):
        _save(_sizes(), folder / "fleet-sizes.svg")
        _save(_days(), folder / "fleet-days.svg")
        _save(_outage(unlimited), folder / "fleet-outage.svg")
        _save(_recovery(unlimited, limited), folder / "fleet-recovery.svg")


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, transparent=True, metadata={"Date": None})
    plt.close(figure)


def _sizes() -> Any:
    """Plot the busiest minute against the size of the fleet."""
    figure, axes = plt.subplots(figsize=(7.5, 4))
    without = [peak(refreshes(Fleet(n, jitter=False), DAY), *FIRST_WAVE) for n in FLEET_SIZES]
    with_jitter = [refreshes(Fleet(n, jitter=True), 7 * DAY) for n in FLEET_SIZES]
    first = [peak(minutes, *FIRST_WAVE) for minutes in with_jitter]
    last = [peak(minutes, 6 * DAY, 7 * DAY) for minutes in with_jitter]
    axes.loglog(FLEET_SIZES, without, "o-", color=ORANGE, label="no jitter, at any time")
    axes.loglog(FLEET_SIZES, first, "o-", color=BLUE, label="jitter, first wave")
    axes.loglog(FLEET_SIZES, last, "o--", color=BLUE, label="jitter, seventh day")
    mean = [n / (REFRESH_INTERVAL / MINUTE) for n in FLEET_SIZES]
    axes.loglog(FLEET_SIZES, mean, ":", color=GRAY, label="mean")
    axes.set(xlabel="machines", title="Refreshes in the busiest minute", ylim=(0.5, None))
    axes.legend()
    return figure


def _days() -> Any:
    """Plot the refreshes per minute of the first days."""
    figure, axes = plt.subplots(figsize=(7.5, 3.5))
    machines, days = 100_000, 4
    for jitter in (False, True):
        minutes = refreshes(Fleet(machines, jitter=jitter), days * DAY)
        times = range(10, days * 24 * 60)
        shares = [100 * minutes[time] / machines or math.nan for time in times]
        hours = [time / 60 for time in times]
        style = {"marker": "o", "linestyle": ""} if not jitter else {"linewidth": 1}
        axes.semilogy(hours, shares, color=COLORS[jitter], label=LABELS[jitter], **style)
    axes.set(xlabel="hours after the start", title="Refreshes per minute, % of the fleet")
    axes.set_xticks(range(0, 24 * days + 1, 12))
    axes.legend()
    return figure


def _outage(outages: dict[bool, Outage]) -> Any:
    """Plot the requests around an outage of one hour in the first wave."""
    figure, axes = plt.subplots(figsize=(7.5, 3.5))
    axes.axvspan(0, 60, color=GRAY, alpha=0.15, linewidth=0)
    for jitter, result in outages.items():
        shares = [100 * count / SAMPLE for count in result.series[:120]]
        axes.plot(range(-30, 90), shares, color=COLORS[jitter], label=LABELS[jitter])
    axes.set(
        xlabel="minutes; the gray area is the outage", title="Requests per minute, % of the fleet"
    )
    axes.legend()
    return figure


def _recovery(unlimited: dict[bool, Outage], limited: dict[bool, Outage]) -> Any:
    """Plot how soon all machines have new tokens, with and without a limit of the service."""
    figure, panels = plt.subplots(1, 2, figsize=(7.5, 3.5), sharey=True)
    for axes, outages in zip(panels, (unlimited, limited), strict=True):
        for jitter, result in outages.items():
            shares = [100 * (n + 1) / len(result.recovered) for n in range(len(result.recovered))]
            axes.plot(
                [0, *result.recovered], [0, *shares], color=COLORS[jitter], label=LABELS[jitter]
            )
        axes.set(xlabel="minutes after the outage")
    panels[0].set(title="Machines with a new token, %")
    panels[1].set(title="… at most ten times the usual rate")
    panels[1].legend()
    return figure
