"""How many token refreshes a fleet sends at once, with this package's jitter and without any.

    python docs/fleet.py

10,000 machines start within a minute, each asks for one token of 24 hours and refreshes it at
half-life, by the rule that the package itself uses. Counted are refreshes in each minute of a week.
"""

from __future__ import annotations

import random
from collections import Counter

from imds_identity._core.freshness import refresh_delay

MACHINES = 10_000
HOUR = 3600.0
LIFE = 24 * HOUR
DAYS = 7
WIDTH = 50


def refreshes(dice: random.Random, *, jitter: bool) -> Counter[int]:
    """Refreshes of the whole fleet by the minute."""
    minutes: Counter[int] = Counter()
    for _ in range(MACHINES):
        moment = dice.uniform(0, 60)
        while True:
            moment += refresh_delay(LIFE, None, dice.random() if jitter else 0.0)
            if moment >= DAYS * 24 * HOUR:
                break
            minutes[int(moment // 60)] += 1
    return minutes


def peaks(minutes: Counter[int]) -> list[int]:
    """The busiest minute of each half-day."""
    halves: Counter[int] = Counter()
    for minute, count in minutes.items():
        # To the nearest: jitter brings forward, so a wave begins before its half-day is over.
        half = round(minute / (12 * 60))
        halves[half] = max(halves[half], count)
    return [halves[half] for half in range(1, DAYS * 2)]


def main() -> None:
    """Print the table of fleet.md."""
    without = refreshes(random.Random(1), jitter=False)
    spread = refreshes(random.Random(1), jitter=True)
    print("| half-day | peak a minute, no jitter | peak a minute, jitter | one in |")
    print("|---:|---:|---:|---:|")
    for number, (plain, jittered) in enumerate(zip(peaks(without), peaks(spread), strict=True), 1):
        print(f"| {number} | {plain:,} | {jittered:,} | {plain / jittered:.0f} |")
    total = sum(spread.values()) / sum(without.values())
    print(
        f"\npeak of the week: {max(without.values()):,} against {max(spread.values()):,} a minute"
    )
    print(f"refreshes in all: {total:.3f} times those without jitter")


if __name__ == "__main__":
    main()
