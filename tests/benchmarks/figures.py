"""The figures: printed one per line, and saved for README's table and chart."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# By "measurement vs baseline": this package's value and the baseline's.
Figures = dict[str, tuple[float, float]]
AZURE_IDENTITY = "azure-identity"
measured: Figures = {}


def compare(
    measurement: str, ours: float, reference: float, unit: str, target: float, baseline: str
) -> None:
    """Print both values, their ratio, and whether it is at most ``target``."""
    ratio = ours / reference
    verdict = "ok" if ratio <= target else "MISSED"
    print(
        f"{measurement:44} imds-identity {ours:9.3f} {unit}   {baseline} {reference:9.3f} {unit}   "
        f"ratio {ratio:.4f} (target {target:.4f}) {verdict}"
    )
    record(measurement, ours, reference, baseline)


def record(measurement: str, ours: float, reference: float, baseline: str) -> None:
    """Keep two values for README's table and chart."""
    measured[figure_name(measurement, baseline)] = (round(ours, 4), round(reference, 4))


def figure_name(measurement: str, baseline: str) -> str:
    """Return the name under which a figure is saved."""
    return f"{measurement} vs {baseline}"


def load(file: Path) -> Figures:
    """Return the figures of earlier runs, if there are any."""
    if not file.exists():
        return {}
    return {name: (ours, other) for name, (ours, other) in json.loads(file.read_text()).items()}


def save(file: Path, figures: Figures) -> None:
    """Write figures to a file, one per line."""
    lines: Iterable[str] = (
        f"  {json.dumps(name)}: {json.dumps(values)}" for name, values in sorted(figures.items())
    )
    file.write_text("{\n" + ",\n".join(lines) + "\n}\n")
