"""``make bench``: this package beside azure-identity, in one run; what counts are the ratios.

    python tests/benchmarks/run.py [--quick] [--plot DIR [--table PAGE]] [NAME ...]

Each benchmark prints what either side took, the ratio, and the ratio that is aimed at. With
``--plot`` the figures are left in DIR/bench.json, where those of benchmarks that were not run stay
as they were, with their picture beside them, and README's table is printed. ``--table``
puts it into a page, in place of the one that is there.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.append(str(Path(__file__).parents[1]))  # where the tests keep what they share

import emulator_speed
import endpoint
import hit_path
import network
import plot
import processes
import report
import startup
import table

if TYPE_CHECKING:
    from collections.abc import Callable

BENCHMARKS: dict[str, Callable[[], None]] = {
    "hit": hit_path.run,
    "startup": startup.run,
    "first-token": network.first_token,
    "threads": network.threads,
    "tasks": network.tasks,
    "warm": processes.warm,
    "process_groups": processes.process_groups,
    "kills": processes.kills,
    "endpoint": endpoint.run,
    "emulator": emulator_speed.run,
}
# Enough to see that a benchmark runs, and too little to believe what it says.
QUICK: dict[Any, dict[str, int]] = {
    hit_path: {"ROUNDS": 6},
    startup: {"ROUNDS": 2},
    network: {"ROUNDS": 15},
    processes: {"STARTS": 3, "KILLS": 20},
    endpoint: {"ROUNDS": 2},
    emulator_speed: {"ROUNDS": 2, "REQUESTS": 1600},
}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description="Measures this package beside azure-identity.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}")
    parser.add_argument("--quick", action="store_true", help="to try a benchmark, not to measure")
    parser.add_argument("--plot", type=Path, metavar="DIR", help="where figures and picture go")
    parser.add_argument("--table", type=Path, metavar="PAGE", help="whose table is made anew")
    args = parser.parse_args(arguments)
    if unknown := {*args.names} - {*BENCHMARKS}:
        parser.error(f"no benchmark is called {', '.join(unknown)}")
    for module, sizes in QUICK.items() if args.quick else ():
        vars(module).update(sizes)
    # An installed package has its bytecode; an editable one gets it at the first import, if it may.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    for name in args.names or BENCHMARKS:
        BENCHMARKS[name]()
    if args.plot:
        rows = show(args.plot)
        if args.table:
            page = table.put_into(args.table.read_text(encoding="utf-8"), rows)
            args.table.write_text(page, encoding="utf-8")


def show(directory: Path) -> str:
    """Leave figures and picture in a directory, and print README's table; the table."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "bench.json"
    figures = {**report.saved(file), **report.measured}
    report.save(file, figures)
    try:
        (directory / "bench.svg").write_text(plot.svg(figures), encoding="utf-8")
    except KeyError as missing:
        sys.exit(f"{file} lacks {missing}: run the benchmark that measures it")
    print(f"\n{file} and bench.svg are written; README's table is:\n")
    rows = "\n".join([table.HEAD, *table.rows(figures)])
    print(rows)
    return rows


if __name__ == "__main__":
    main(sys.argv[1:])
