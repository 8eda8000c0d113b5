"""The pictures of fleet.md, drawn by matplotlib so that they can be read on light and on dark."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from fleet import (
    DAY,
    FIRST_WAVE,
    FLEETS,
    MINUTE,
    NARROW,
    SAMPLE,
    WAVE,
    Fleet,
    Outage,
    busiest,
    outage,
    refreshes,
)

mpl.use("svg")
import matplotlib.pyplot as plt

if TYPE_CHECKING:
    from pathlib import Path

PLAIN, SPREAD, INK = "#d9730d", "#2f81f7", "#808080"
NAMES = {False: "no jitter", True: "jitter"}
COLOURS = {False: PLAIN, True: SPREAD}
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fleet",
    "font.family": "sans-serif",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 11,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "grid.color": INK,
    "grid.alpha": 0.25,
    "axes.grid": True,
}


def draw(folder: Path) -> None:
    """Write each picture into ``folder``."""
    free = {jitter: outage(Fleet(SAMPLE, jitter=jitter)) for jitter in NAMES}
    narrow = {jitter: outage(Fleet(SAMPLE, jitter=jitter), per_second=NARROW) for jitter in NAMES}
    with mpl.rc_context(STYLE):
        _save(_sizes(), folder / "fleet-sizes.svg")
        _save(_days(), folder / "fleet-days.svg")
        _save(_hour(free), folder / "fleet-outage.svg")
        _save(_recovery(free, narrow), folder / "fleet-recovery.svg")


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, transparent=True, metadata={"Date": None})
    plt.close(figure)


def _sizes() -> Any:
    """The busiest minute over the size of the fleet."""
    figure, axes = plt.subplots(figsize=(7.5, 4))
    plain = [busiest(refreshes(Fleet(n, jitter=False), DAY), *FIRST_WAVE) for n in FLEETS]
    spread = [refreshes(Fleet(n, jitter=True), 7 * DAY) for n in FLEETS]
    first = [busiest(minutes, *FIRST_WAVE) for minutes in spread]
    last = [busiest(minutes, 6 * DAY, 7 * DAY) for minutes in spread]
    axes.loglog(FLEETS, plain, "o-", color=PLAIN, label="no jitter, at any time")
    axes.loglog(FLEETS, first, "o-", color=SPREAD, label="jitter, first wave")
    axes.loglog(FLEETS, last, "o--", color=SPREAD, label="jitter, seventh day")
    mean = [n / (WAVE / MINUTE) for n in FLEETS]
    axes.loglog(FLEETS, mean, ":", color=INK, label="mean")
    axes.set(xlabel="machines", title="Refreshes in the busiest minute", ylim=(0.5, None))
    axes.legend()
    return figure


def _days() -> Any:
    """Refreshes by the minute in the first days."""
    figure, axes = plt.subplots(figsize=(7.5, 3.5))
    machines, days = 100_000, 4
    for jitter in (False, True):
        minutes = refreshes(Fleet(machines, jitter=jitter), days * DAY)
        moments = range(10, days * 24 * 60)
        shares = [100 * minutes[moment] / machines or math.nan for moment in moments]
        hours = [moment / 60 for moment in moments]
        style = {"marker": "o", "linestyle": ""} if not jitter else {"linewidth": 1}
        axes.semilogy(hours, shares, color=COLOURS[jitter], label=NAMES[jitter], **style)
    axes.set(xlabel="hours after the start", title="Refreshes in a minute, % of the fleet")
    axes.set_xticks(range(0, 24 * days + 1, 12))
    axes.legend()
    return figure


def _hour(outages: dict[bool, Outage]) -> Any:
    """Requests around an hour's outage in the first wave."""
    figure, axes = plt.subplots(figsize=(7.5, 3.5))
    axes.axvspan(0, 60, color=INK, alpha=0.15, linewidth=0)
    for jitter, found in outages.items():
        shares = [100 * count / SAMPLE for count in found.series[:120]]
        axes.plot(range(-30, 90), shares, color=COLOURS[jitter], label=NAMES[jitter])
    axes.set(
        xlabel="minutes; the service is down in grey", title="Requests in a minute, % of the fleet"
    )
    axes.legend()
    return figure


def _recovery(free: dict[bool, Outage], narrow: dict[bool, Outage]) -> Any:
    """How soon all have fresh tokens, from a service with all or with little capacity."""
    figure, panels = plt.subplots(1, 2, figsize=(7.5, 3.5), sharey=True)
    for axes, outages in zip(panels, (free, narrow), strict=True):
        for jitter, found in outages.items():
            done = [100 * (n + 1) / len(found.recovered) for n in range(len(found.recovered))]
            axes.plot([0, *found.recovered], [0, *done], color=COLOURS[jitter], label=NAMES[jitter])
        axes.set(xlabel="minutes after the outage")
    panels[0].set(title="Machines with a fresh token, %")
    panels[1].set(title="… ten times the usual rate at most")
    panels[1].legend()
    return figure
