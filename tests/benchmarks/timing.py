"""Durations of commands, each from its start to its end."""

from __future__ import annotations

import subprocess
import time


def fastest_runs(rounds: int, *commands: tuple[list[str], dict[str, str]]) -> list[float]:
    """Return the seconds of each command's fastest run.

    The commands run in turns, with one uncounted round before.

    Args:
        rounds: how many runs count.
        commands: each with its environment.
    """
    runs = [[run_seconds(*each) for each in commands] for _ in range(rounds + 1)]
    return [min(seconds) for seconds in zip(*runs[1:], strict=True)]


def run_seconds(command: list[str], environment: dict[str, str]) -> float:
    """Run a command and return the seconds that it took."""
    started = time.perf_counter()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started
