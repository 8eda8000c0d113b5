"""uWSGI loads an application and then forks in C, without Python's fork hooks."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from interop_support import require_part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from imds_identity.emulator import Emulator

pytestmark = pytest.mark.interop

DELAY = 3
"""Seconds that the first response takes: the workers are forked during this time."""
WORKERS = 3


@contextmanager
def uwsgi(
    emulator: Emulator, directory: Path, cache: str, *options: str, app: str = "wsgi_app"
) -> Iterator[str]:
    """Run the application under uWSGI; return its URL."""
    home = require_part("uwsgi") / "programs"
    log = directory / "uwsgi.log"
    command: list[str | Path] = [
        home / "bin/uwsgi", "--home", home, "--http-socket", "127.0.0.1:0", "--master",
        "--processes", str(WORKERS), "--no-orphans", "--die-on-term", "--need-app",
        "--chdir", Path(__file__).parent, "--module", app, *options,
    ]  # fmt: skip
    environment = {**os.environ, **emulator.environment(), "IMDS_IDENTITY_CACHE": cache}
    with (
        log.open("w") as file,
        subprocess.Popen(
            command, env=environment, stdout=file, stderr=file, start_new_session=True
        ) as process,
    ):
        try:
            yield f"http://{bound_address(log)}/0"
            process.terminate()
            process.wait(30)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)  # hanging workers would remain
            raise AssertionError(log.read_text()[-5000:]) from error


def bound_address(log: Path) -> str:
    """Return the address that uWSGI has chosen, once all workers have been forked."""
    for _ in range(300):
        text = log.read_text()
        bound = re.search(r"bound to TCP address (127\.0\.0\.1:[0-9]+)", text)
        if bound and f"spawned uWSGI worker {WORKERS}" in text:
            return bound[1]
        time.sleep(0.1)
    raise AssertionError("uWSGI has not started")


def get(url: str) -> tuple[str, str]:
    """Return the process of a worker and its digest of a token."""
    with urllib.request.urlopen(url, timeout=60) as response:
        process, digest = response.read().decode().split()
    return process, digest


def digests_of_all_workers(url: str) -> set[str]:
    """Return the digests of all tokens, once each worker has responded: none of them hangs."""
    responses: set[tuple[str, str]] = set()
    with ThreadPoolExecutor(8) as clients:
        for _ in range(50):
            responses.update(clients.map(get, [url] * 24))
            if len({process for process, _ in responses}) == WORKERS:
                return {digest for _, digest in responses}
    raise AssertionError("a worker does not respond")


@pytest.mark.parametrize("shares", [True, False])
@pytest.mark.parametrize(
    "options", [[], ["--enable-threads"], ["--threads=2"], ["--lazy-apps"]], ids=str
)
def test_workers_do_not_wait_for_a_fetch_of_the_process_that_forked_them(
    options: list[str], shares: bool, emulator_factory: Callable[..., Emulator], tmp_path: Path
) -> None:
    emulator = emulator_factory(resources=["https://*.example"])
    emulator.fault(delay=DELAY, times=1)
    cache = str(tmp_path / "shared") if shares else "off"
    with uwsgi(emulator, tmp_path, cache, *options) as url:
        digests = digests_of_all_workers(url)
    assert digests <= {sha256(each.value.encode()).hexdigest() for each in emulator.issued_tokens}
    if shares:
        assert len(emulator.token_requests) == 1
    else:
        assert len(emulator.token_requests) <= 1 + WORKERS


@pytest.mark.parametrize("options", [[], ["--enable-threads"]], ids=str)
def test_no_thread_runs_when_uwsgi_forks_after_a_fetch(
    options: list[str], emulator_factory: Callable[..., Emulator], tmp_path: Path
) -> None:
    """The workers would hang."""
    emulator = emulator_factory(resources=["https://*.example"])
    with uwsgi(emulator, tmp_path, "off", *options, app="wsgi_app_with_hook") as url:
        assert len(digests_of_all_workers(url)) == 1
    assert len(emulator.token_requests) == 1
