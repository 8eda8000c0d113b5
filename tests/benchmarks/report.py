"""One line a figure, and what is kept of them for the table and the picture in README."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# What was measured, by what it is and beside what: ours, theirs.
Figures = dict[str, tuple[float, float]]
AZURE_IDENTITY = "azure-identity"
measured: Figures = {}


def compare(what: str, ours: float, theirs: float, unit: str, aim: float, beside: str) -> None:
    """Print both sides, their ratio and whether it is within ``aim``."""
    ratio = ours / theirs
    verdict = "ok" if ratio <= aim else "MISSED"
    print(
        f"{what:44} ours {ours:9.3f} {unit}   {beside} {theirs:9.3f} {unit}   "
        f"ratio {ratio:.4f} (aim {aim:.4f}) {verdict}"
    )
    keep(f"{what}, beside {beside.strip()}", ours, theirs)


def keep(what: str, ours: float, theirs: float) -> None:
    """Remember what either side took, for the table and the picture."""
    measured[what] = (round(ours, 4), round(theirs, 4))


def saved(file: Path) -> Figures:
    """What earlier runs have left in a file; nothing if there is none."""
    if not file.exists():
        return {}
    return {what: (ours, theirs) for what, (ours, theirs) in json.loads(file.read_text()).items()}


def save(file: Path, figures: Figures) -> None:
    """Leave what was measured in a file, one figure a line."""
    lines: Iterable[str] = (
        f"  {json.dumps(what)}: {json.dumps(sides)}" for what, sides in sorted(figures.items())
    )
    file.write_text("{\n" + ",\n".join(lines) + "\n}\n")
