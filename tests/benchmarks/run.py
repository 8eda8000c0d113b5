"""``make bench``: this package beside azure-identity, in one run; what counts are the ratios.

    python tests/benchmarks/run.py [NAME ...]

Each benchmark prints what either side took, the ratio, and the ratio that is aimed at.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.append(str(Path(__file__).parents[1]))  # where the tests keep what they share

import emulator_speed
import endpoint
import hit_path
import network
import processes
import startup

if TYPE_CHECKING:
    from collections.abc import Callable

BENCHMARKS: dict[str, Callable[[], None]] = {
    "hit": hit_path.run,
    "startup": startup.run,
    "first-token": network.first_token,
    "threads": network.threads,
    "tasks": network.tasks,
    "warm": processes.warm,
    "crowds": processes.crowds,
    "kills": processes.kills,
    "endpoint": endpoint.run,
    "emulator": emulator_speed.run,
}


def main(names: list[str]) -> None:
    # An installed package has its bytecode; an editable one gets it at the first import, if it may.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    for name in names or BENCHMARKS:
        BENCHMARKS[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
