"""Where each microsecond goes: of a hit, of a first token, of a start of the command line.

    python tests/benchmarks/where.py [PAGE]

Prints a table for each, or puts them into PAGE, between its marks.
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

sys.path.append(str(Path(__file__).parents[1]))  # where the tests keep what they share

from commands import least
from hit_path import SCOPE, Empty, microseconds, sync_seconds
from processes import SECRET, service

import imds_identity
from imds_identity.emulator import Emulator

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HIT_ROUNDS = 200
FIRST_ROUNDS = 120
STARTS = 31
MARKS = "<!-- where: begin -->", "<!-- where: end -->"


class LooksUp(Empty):
    """What finds the slot of a scope, and no more."""

    def __init__(self) -> None:
        self._entries = {SCOPE: self}
        self._cae_entries = self._entries

    def get_token(self, *scopes: str, enable_cae: bool = False, **_: Any) -> None:
        """Look up the scope."""
        (scope,) = scopes
        (self._cae_entries if enable_cae else self._entries)[scope]


class LooksAtClock(Empty):
    """What reads the clock, and no more."""

    def __init__(self, credential: Any) -> None:
        self._tick = credential._tick

    def get_token(self, *_: str, **__: Any) -> None:
        """Read the clock."""
        tick = self._tick
        tick()


def hit() -> Iterator[tuple[str, float]]:
    """Nanoseconds of the parts of a hit."""
    with Emulator() as emulator:
        os.environ.update(emulator.environment())
        ours: Any = imds_identity.ManagedIdentityCredential()
        ours.get_token(SCOPE)
        sides: Sequence[Any] = (Empty(), LooksUp(), LooksAtClock(ours), ours)
        rounds = [[sync_seconds(side) for side in sides] for _ in range(HIT_ROUNDS)]
    empty, found, clock, whole = (
        microseconds(list(side)) * 1e3 for side in zip(*rounds, strict=True)
    )
    yield "an empty method of the same signature", empty
    yield "looking up the scope", found - empty
    yield "reading the clock", clock - empty
    yield "comparing, and returning the token", whole - found - clock + empty
    yield "in all", whole


# What happens, in its order: what is called then, and whether the moment is that of its end.
MOMENTS = [
    ("constructing the credential", "_azure_core.base:BaseCredential._entry", False),
    ("another process's token, a thread", "_token_cache.cache:TokenCache._fetch_flight", False),
    ("taking the machine's lease", "_token_cache.shared_fetch:SharedFetch._usable_record", True),
    ("choosing how to ask", "_http.runner:ExchangeRunner.run", False),
    ("waiting for a lane to the service", "_http.transport:_send", False),
    ("connecting", "_http.connection:Connection.connect", True),
    ("the request, the service and its answer", "_http.transport:_send", True),
    ("giving the lane back; reading the token", "_http.runner:ExchangeRunner.run", True),
    ("leaving it for other processes", "_shared_cache.store:SharedCache.write", True),
    ("giving the lease back", "_token_cache.cache:TokenCache._complete", False),
    ("waking who waits; azure-core's form of the token", "", True),
]  # fmt: skip
FIRST_TOKEN = """
import importlib, json, os, sys, time
import azure.core.credentials
import imds_identity
from imds_identity import ManagedIdentityCredential
seen = {}

def watch(number, where, at_end):
    module, _, path = where.partition(":")
    *owner, name = path.split(".")
    holder = importlib.import_module(f"imds_identity.{module}")
    for each in owner:
        holder = getattr(holder, each)
    call = getattr(holder, name)

    def watched(*args, **kwargs):
        if not at_end:
            seen.setdefault(number, time.perf_counter())
        try:
            return call(*args, **kwargs)
        finally:
            if at_end:
                seen.setdefault(number, time.perf_counter())

    setattr(holder, name, watched)

moments = json.loads(sys.argv[1])
for number, (_, where, at_end) in enumerate(moments):
    if where:
        watch(number, where, at_end)
for _ in range(int(sys.argv[2])):
    imds_identity.clear_cache()
    time.sleep(0.08)  # no more requests a second than a machine may send
    seen.clear()
    started = time.perf_counter()
    ManagedIdentityCredential().get_token("https://vault.azure.net/.default")
    seen[len(moments) - 1] = time.perf_counter()
    print(json.dumps([seen[number] - started for number in range(len(moments))]))
"""


def first_token() -> Iterator[tuple[str, float]]:
    """Microseconds of the parts of a first token over the network, with the shared cache."""
    with service() as (_, environment):
        done = subprocess.run(
            [sys.executable, "-c", FIRST_TOKEN, json.dumps(MOMENTS), str(FIRST_ROUNDS)],
            env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
    rounds = [json.loads(line) for line in done.stdout.splitlines()[5:]]
    spans = [[end - begin for begin, end in zip([0.0, *one], one)] for one in rounds]  # noqa: B905
    for (what, *_), span in zip(MOMENTS, zip(*spans, strict=True), strict=True):
        yield what, statistics.median(span) * 1e6
    yield "in all", statistics.median(one[-1] for one in rounds) * 1e6


def start() -> Iterator[tuple[str, float]]:
    """Milliseconds of the parts of `imds-identity token` where the machine has the token."""
    library = "json, re, threading, contextlib, contextvars"
    parser = f"{library}, argparse, gettext, locale"
    end = "import os; os._exit(0)"  # as the command line does
    ours = f"{parser}, imds_identity.cli.token, imds_identity._token_cache.process"
    whole = "from imds_identity.cli import program; program()"
    steps = {
        "Python itself": ["pass"],
        "the standard library's json, re, threading": [f"import {library}; {end}"],
        "argparse": [f"import {parser}; {end}"],
        "this package's modules": [f"import {ours}; {end}"],
        "arguments, two files and the token": [whole, "token", SECRET],
    }
    with service() as (_, environment):
        commands = ([sys.executable, "-c", *words] for words in steps.values())
        spans = least(STARTS, *((each, environment) for each in commands))
    before = 0.0
    for what, seconds in zip(steps, spans, strict=True):
        yield what, (seconds - before) * 1e3
        before = seconds
    yield "in all", before * 1e3


def tables() -> str:
    """All three, in Markdown."""
    said = []
    for title, unit, digits, parts in (
        ("A hit", "ns", 0, hit()),
        ("A first token, shared", "µs", 0, first_token()),
        ("`imds-identity token`, the token already on the machine", "ms", 1, start()),
    ):
        lines = [f"| {what} | {value:.{digits}f} |" for what, value in parts]
        said.append("\n".join([f"| {title} | {unit} |", "|---|---:|", *lines]))
    return "\n\n".join(said)


def main(pages: list[str]) -> None:
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    said = tables()
    print(said)
    begin, end = MARKS
    for page in map(Path, pages):
        text = page.read_text(encoding="utf-8")
        between = re.compile(f"{re.escape(begin)}.*{re.escape(end)}", re.DOTALL)
        if not between.search(text):
            sys.exit(f"{page} has no {begin} … {end}")
        page.write_text(between.sub(lambda _: f"{begin}\n{said}\n{end}", text), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
