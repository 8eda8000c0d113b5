"""The time of each step of a cache hit, a first token and a start of the command line.

    python tests/benchmarks/time_breakdown.py [PAGE]

Prints a table for each, and replaces the tables between the marks of PAGE.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.append(str(Path(__file__).parents[1]))  # for the modules that all tests share

from hit_path import SCOPE, EmptyCredential, microseconds, sync_seconds
from many_processes import VAULT, run_service
from timing import fastest_runs

import imds_identity
from imds_identity.emulator import Emulator

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HIT_ROUNDS = 200
FIRST_ROUNDS = 120
STARTS = 31
MARKS = "<!-- breakdown: begin -->", "<!-- breakdown: end -->"


class LookupOnly(EmptyCredential):
    """Finds the cache entry of a scope, and does nothing else."""

    def __init__(self) -> None:
        self._entries = {SCOPE: self}
        self._cae_entries = self._entries

    def get_token(self, *scopes: str, enable_cae: bool = False, **_: Any) -> None:
        """Look up the scope."""
        (scope,) = scopes
        (self._cae_entries if enable_cae else self._entries)[scope]


class ClockOnly(EmptyCredential):
    """Reads the clock, and does nothing else."""

    def __init__(self, credential: Any) -> None:
        self._tick = credential._tick

    def get_token(self, *_: str, **__: Any) -> None:
        """Read the clock."""
        tick = self._tick
        tick()


def hit() -> Iterator[tuple[str, float]]:
    """Yield the nanoseconds of each step of a hit."""
    with Emulator() as emulator:
        os.environ.update(emulator.environment())
        ours: Any = imds_identity.ManagedIdentityCredential()
        ours.get_token(SCOPE)
        credentials: Sequence[Any] = (EmptyCredential(), LookupOnly(), ClockOnly(ours), ours)
        rounds = [
            [sync_seconds(credential) for credential in credentials] for _ in range(HIT_ROUNDS)
        ]
    empty, lookup, clock, total = (
        microseconds(list(times)) * 1e3 for times in zip(*rounds, strict=True)
    )
    yield "an empty method of the same signature", empty
    yield "looking up the scope", lookup - empty
    yield "reading the clock", clock - empty
    yield "comparing times and returning the token", total - lookup - clock + empty
    yield "total", total


# The steps in order: each ends when this function is called, or if True when it returns.
STEPS = [
    ("constructing the credential", "_azure_core.base:BaseCredential._entry", False),
    ("shared cache, start of a thread", "_token_cache.cache:TokenCache._run", False),
    ("taking the lease", "_token_cache.fetch:Fetch._shared_token", True),
    ("building the request", "_http.runner:ExchangeRunner.run", False),
    ("waiting for the rate limit", "_http.transport:_send", False),
    ("connecting", "_http.connection:BoundedConnection.connect", True),
    ("request and response", "_http.transport:_send", True),
    ("releasing the rate limit, parsing the token", "_http.runner:ExchangeRunner.run", True),
    ("writing to the shared cache", "_shared_cache.store:SharedCache.write", True),
    ("releasing the lease", "_token_cache.cache:TokenCache._complete", False),
    ("waking waiters, building the AccessToken", "", True),
]  # fmt: skip
FIRST_TOKEN = """
import importlib, json, os, sys, time
import azure.core.credentials
import imds_identity
from imds_identity import ManagedIdentityCredential
step_ends = {}

def instrument(number, function, at_end):
    module, _, path = function.partition(":")
    *owner, name = path.split(".")
    holder = importlib.import_module(f"imds_identity.{module}")
    for part in owner:
        holder = getattr(holder, part)
    call = getattr(holder, name)

    def wrapper(*args, **kwargs):
        if not at_end:
            step_ends.setdefault(number, time.perf_counter())
        try:
            return call(*args, **kwargs)
        finally:
            if at_end:
                step_ends.setdefault(number, time.perf_counter())

    setattr(holder, name, wrapper)

steps = json.loads(sys.argv[1])
for number, (_, function, at_end) in enumerate(steps):
    if function:
        instrument(number, function, at_end)
for _ in range(int(sys.argv[2])):
    imds_identity.clear_cache()
    time.sleep(0.3)  # as in the benchmark of first tokens
    step_ends.clear()
    started = time.perf_counter()
    ManagedIdentityCredential().get_token("https://vault.azure.net/.default")
    step_ends[len(steps) - 1] = time.perf_counter()
    print(json.dumps([step_ends[number] - started for number in range(len(steps))]))
"""


def first_token() -> Iterator[tuple[str, float]]:
    """Yield the microseconds of each step of a first token, with the shared cache."""
    with run_service() as (_, environment):
        done = subprocess.run(
            [sys.executable, "-c", FIRST_TOKEN, json.dumps(STEPS), str(FIRST_ROUNDS)],
            env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
    rounds = [json.loads(line) for line in done.stdout.splitlines()[5:]]
    spans = [[end - begin for begin, end in zip([0.0, *one], one)] for one in rounds]  # noqa: B905
    for (step, *_), span in zip(STEPS, zip(*spans, strict=True), strict=True):
        yield step, statistics.median(span) * 1e6
    yield "total", statistics.median(one[-1] for one in rounds) * 1e6


def start() -> Iterator[tuple[str, float]]:
    """Yield the milliseconds of each step of `imds-identity token` with a warm cache."""
    library = "json, re, threading, contextlib, contextvars"
    parser = f"{library}, argparse, gettext, locale"
    ours = f"{parser}, imds_identity.cli.token, imds_identity._token_cache.process"
    program = "from imds_identity.cli import program; program()"
    steps = {
        "Python itself": ["pass"],
        "the standard library's json, re, threading": [f"import {library}"],
        "argparse": [f"import {parser}"],
        "this package's modules": [f"import {ours}"],
        "parsing arguments, reading two files": [program, "token", VAULT],
    }
    with run_service() as (_, environment):
        commands = ([sys.executable, "-c", *words] for words in steps.values())
        spans = fastest_runs(STARTS, *((each, environment) for each in commands))
    before = 0.0
    for step, seconds in zip(steps, spans, strict=True):
        yield step, (seconds - before) * 1e3
        before = seconds
    yield "total", before * 1e3


def tables() -> str:
    """Return all three tables in Markdown."""
    sections = []
    for title, unit, digits, steps in (
        ("A cache hit", "ns", 0, hit()),
        ("A first token, with the shared cache", "µs", 0, first_token()),
        ("`imds-identity token`, warm cache", "ms", 1, start()),
    ):
        lines = [f"| {step} | {value:.{digits}f} |" for step, value in steps]
        sections.append("\n".join([f"| {title} | {unit} |", "|---|---:|", *lines]))
    return "\n\n".join(sections)


def main(pages: list[str]) -> None:
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    text = tables()
    print(text)
    begin, end = MARKS
    for page in map(Path, pages):
        old = page.read_text(encoding="utf-8")
        between = re.compile(f"{re.escape(begin)}.*{re.escape(end)}", re.DOTALL)
        if not between.search(old):
            sys.exit(f"{page} lacks the marks {begin} … {end}")
        page.write_text(between.sub(lambda _: f"{begin}\n{text}\n{end}", old), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
