"""``make bench``: compare this package with azure-identity; the ratios are what matters.

    python tests/benchmarks/run.py [--quick] [--plot DIR [--table PAGE]] [NAME ...]

Each benchmark prints both values, their ratio and the target ratio. ``--plot`` updates
DIR/bench.json and DIR/bench.svg and prints README's table; figures of benchmarks that did not run
stay. ``--table`` also replaces the table in PAGE.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.append(str(Path(__file__).parents[1]))  # for the modules that all tests share

import emulator_speed
import exec_and_secret
import figures
import hit_path
import import_time
import many_processes
import many_resources
import network
import plot
import serve_throughput
import table

if TYPE_CHECKING:
    from collections.abc import Callable

BENCHMARKS: dict[str, Callable[[], None]] = {
    "hit": hit_path.run,
    "import": import_time.run,
    "first-token": network.first_token,
    "threads": network.threads,
    "tasks": network.tasks,
    "warm": many_processes.warm,
    "processes": many_processes.concurrent_processes,
    "resources": many_resources.run,
    "kills": many_processes.kills,
    "exec": exec_and_secret.run,
    "serve": serve_throughput.run,
    "emulator": emulator_speed.run,
}
# Enough to see that a benchmark runs, but too few rounds for reliable figures.
QUICK: dict[Any, dict[str, int]] = {
    hit_path: {"ROUNDS": 6},
    import_time: {"ROUNDS": 2},
    network: {"ROUNDS": 15},
    many_processes: {"STARTS": 3, "KILLS": 20},
    many_resources: {"RESOURCES": 40},
    exec_and_secret: {"ROUNDS": 2},
    serve_throughput: {"ROUNDS": 2, "REQUESTS": 1000},
    emulator_speed: {"ROUNDS": 2, "REQUESTS": 1600},
}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description="Compare this package with azure-identity.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(BENCHMARKS)}")
    parser.add_argument("--quick", action="store_true", help="run few rounds, to try a benchmark")
    parser.add_argument("--plot", type=Path, metavar="DIR", help="write figures and chart to DIR")
    parser.add_argument("--table", type=Path, metavar="PAGE", help="replace the table in PAGE")
    args = parser.parse_args(arguments)
    if unknown := {*args.names} - {*BENCHMARKS}:
        parser.error(f"unknown benchmark: {', '.join(unknown)}")
    for module, sizes in QUICK.items() if args.quick else ():
        vars(module).update(sizes)
    # An installed package has its bytecode; an editable one gets it at its first import.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    for name in args.names or BENCHMARKS:
        BENCHMARKS[name]()
    if args.plot:
        rows = publish(args.plot)
        if args.table:
            page = table.replace_table(args.table.read_text(encoding="utf-8"), rows)
            args.table.write_text(page, encoding="utf-8")


def publish(directory: Path) -> str:
    """Write figures and chart to a directory; print and return README's table."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "bench.json"
    all_figures = {**figures.load(file), **figures.measured}
    figures.save(file, all_figures)
    try:
        (directory / "bench.svg").write_text(plot.svg(all_figures), encoding="utf-8")
    except KeyError as missing:
        sys.exit(f"{file} lacks {missing}: run the benchmark that measures it")
    print(f"\nWrote {file} and bench.svg. README's table:\n")
    rows = "\n".join([table.HEAD, *table.rows(all_figures)])
    print(rows)
    return rows


if __name__ == "__main__":
    main(sys.argv[1:])
