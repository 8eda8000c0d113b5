"""How long commands take, each from its start to its end."""

from __future__ import annotations

import subprocess
import time


def least(rounds: int, *measured: tuple[list[str], dict[str, str]]) -> list[float]:
    """Seconds of each command, the least of several runs in turn; the first does not count.

    Args:
        rounds: how many runs count.
        measured: commands, each with its environment.
    """
    runs = [[took(*each) for each in measured] for _ in range(rounds + 1)]
    return [min(seconds) for seconds in zip(*runs[1:], strict=True)]


def took(command: list[str], environment: dict[str, str]) -> float:
    """Seconds that a command takes."""
    started = time.perf_counter()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started
