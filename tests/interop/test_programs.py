"""Servers, task queues and notebooks that use the credentials. docs/programs.md lists them."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import chain
from typing import TYPE_CHECKING, Any

import pytest
from interop_support import REPOSITORY, require_part

from program_support import PROGRAMS, ProgramHost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from imds_identity.emulator import Emulator

pytestmark = pytest.mark.interop

FOLDER = REPOSITORY / "tests/interop/programs"
STRICT = {"PYTHONDEVMODE": "1", "PYTHONWARNINGS": "error"}
# Servers warn that they do not close the socket that they listen on, and asyncio of slow steps.
# The lines of two workers may be mixed.
EXPECTED_OUTPUT = (
    r"(?:Exception ignored in: |ResourceWarning|: |unclosed |"
    r"<socket\.socket [^<>\n]*laddr=[^<>\n]*/socket>:?)+\n|"
    r"Executing <[^\n]* took [\d.]+ seconds\n|"
    r"\nworker: Warm shutdown \(MainProcess\)\n"
)
REQUESTS = 24
CLIENTS = 8
WORKERS = 2


@pytest.fixture
def host(emulator_factory: Callable[..., Emulator], tmp_path: Path) -> ProgramHost:
    python = require_part("programs") / "programs/bin/python"
    return ProgramHost(emulator_factory, tmp_path, python, (PROGRAMS, FOLDER), latency=0.2)


@contextmanager
def background(
    host: ProgramHost, *arguments: str, **variables: str
) -> Iterator[subprocess.Popen[str]]:
    """Run Python in the background until SIGTERM; check that it ends without any output."""
    output = host.directory / "output"
    with output.open("w") as file, subprocess.Popen(
        [host.python, *arguments], env={**host.environment, **STRICT, **variables},
        cwd=host.directory, stdout=file, stderr=file, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            yield process
            process.terminate()
            process.wait(30)
        except Exception as error:
            os.killpg(process.pid, signal.SIGKILL)  # the workers would remain
            raise AssertionError(output.read_text()[-5000:]) from error
    text = re.sub(EXPECTED_OUTPUT, "", output.read_text())
    assert (process.returncode, text.strip()) == (0, "")


class Server:
    """A server process that listens on a Unix socket.

    Args:
        process: the process.
        path: the path of its socket.
    """

    def __init__(self, process: subprocess.Popen[str], path: Path) -> None:
        self.process = process
        self._path = path
        while True:
            with socket.socket(socket.AF_UNIX) as connection:
                if not connection.connect_ex(str(path)):
                    break
            assert process.poll() is None
            time.sleep(0.02)

    def get(self, path: str) -> dict[str, Any]:
        """Return the JSON of a response; repeat a request that a worker resets when it ends."""
        for _ in range(WORKERS):
            with suppress(ConnectionResetError):
                return self._get(path)
        return self._get(path)

    def _get(self, path: str) -> dict[str, Any]:
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(60)
        try:
            connection.sock.connect(str(self._path))
            connection.request("GET", path, headers={"Connection": "close"})
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        assert response.status == 200, body
        result: dict[str, Any] = json.loads(body)
        return result

    def get_all(self, *paths: str) -> list[dict[str, Any]]:
        """Request the paths many times with concurrent clients."""
        with ThreadPoolExecutor(CLIENTS) as clients:
            return list(clients.map(self.get, paths * (REQUESTS // len(paths))))


@contextmanager
def server(host: ProgramHost, *arguments: str, **variables: str) -> Iterator[Server]:
    """Run a server; ``{path}`` in an argument is the path of its socket."""
    path = host.directory / "socket"
    filled = [each.format(path=path) for each in arguments]
    with background(host, *filled, **variables) as process:
        yield Server(process, path)


def check_responses(host: ProgramHost, responses: list[dict[str, Any]]) -> set[int]:
    """Check the tokens of all responses; return the ids of the processes that sent them."""
    host.check([response["digests"] for response in responses])
    return {response["process"] for response in responses}


def workers_of(
    host: ProgramHost, running: Server, paths: list[str], other_than: AbstractSet[int] = frozenset()
) -> set[int]:
    """Send requests until all workers have responded and other ones have ended; return the ids.

    A worker of gunicorn that has not started yet ignores the signal to end.
    """
    while True:
        latest = check_responses(host, running.get_all(*paths))
        if len(latest) == WORKERS and not latest & other_than:
            return latest


GUNICORN = {
    "sync": (["--worker-class=sync"], ["/sync", "/new", "/aio"]),
    "gthread": (["--worker-class=gthread", "--threads=4"], ["/sync", "/new", "/aio"]),
    "gevent": (["--worker-class=gevent"], ["/sync", "/new"]),
    "uvicorn": (["--worker-class=uvicorn_worker.UvicornWorker"], ["/sync", "/new", "/aio"]),
    "sync-preload": (["--preload"], ["/sync", "/new", "/aio"]),
    "gthread-preload": (["--preload", "--threads=4"], ["/sync", "/new", "/aio"]),
    "gevent-preload": (["--preload", "--worker-class=gevent"], ["/sync", "/new"]),
}


@pytest.mark.parametrize("name", GUNICORN)
def test_gunicorn(host: ProgramHost, name: str) -> None:
    options, paths = GUNICORN[name]
    command = ["-m", "gunicorn", f"--workers={WORKERS}", "--bind=unix:{path}", "--log-level=error"]
    app = "asgi_app:app" if name == "uvicorn" else "wsgi_app:app"
    variables = {"FETCH_AT_IMPORT": "1"} if "preload" in name else {}
    with server(host, *command, *options, app, **variables) as running:
        before = workers_of(host, running, paths)
        running.process.send_signal(signal.SIGHUP)
        workers_of(host, running, paths, other_than=before)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_uvicorn(host: ProgramHost, loop: str) -> None:
    command = ["-m", "uvicorn", f"--workers={WORKERS}", "--uds={path}", "--log-level=error"]
    with server(host, *command, f"--loop={loop}", "asgi_app:app") as running:
        check_responses(host, running.get_all("/sync", "/new", "/aio"))


def run_tasks(host: ProgramHost, *names: str) -> list[tuple[int, list[str]]]:
    """Run Celery tasks at the same time; return the process id and the digests of each."""
    results: list[tuple[int, list[str]]] = json.loads(
        host.run(str(FOLDER / "celery_client.py"), *names)
    )
    return results


@pytest.mark.parametrize("pool", ["prefork", "gevent", "solo"])
def test_celery(host: ProgramHost, pool: str) -> None:
    command = [
        "-m", "celery", "--app=celery_app", "-q", "worker", "--loglevel=ERROR",
        "--without-mingle", "--without-gossip", "--without-heartbeat", f"--pool={pool}",
        "--concurrency=4",
    ]  # fmt: skip
    tasks = ["tokens"] * 10 + ["aio_tokens"] * (0 if pool == "gevent" else 10)
    warnings = "error,ignore:You're running the worker with superuser privileges"
    with background(host, *command, PYTHONWARNINGS=warnings):
        if pool == "prefork":  # the only pool with soft time limits
            host.emulator.fault(delay=3, times=1)
            [[_, stopped]] = run_tasks(host, "limited_tokens")
            assert stopped == ["stopped"]
        results = run_tasks(host, *tasks)
        host.check([digests for _, digests in results])


@pytest.mark.parametrize("backend", ["loky", "multiprocessing", "threading"])
def test_joblib(host: ProgramHost, backend: str) -> None:
    host.run_job(str(FOLDER / "joblib_program.py"), backend, **STRICT)


def test_ipykernel_with_nest_asyncio(host: ProgramHost) -> None:
    host.emulator.fault(delay=3, times=1)  # while the first cell is interrupted
    host.run_job(str(FOLDER / "notebook.py"))


USER_TESTS = """
import asyncio, json
import pytest
from token_jobs import aio_job, sync_job

@pytest.mark.parametrize("number", range(8))
def test_tokens(number, worker_id):
    with open(f"{worker_id}-{number}.json", "w") as file:
        json.dump([sync_job(), asyncio.run(aio_job())], file)
"""


def test_pytest_xdist(emulator_factory: Callable[..., Emulator], tmp_path: Path) -> None:
    (tmp_path / "test_user.py").write_text(USER_TESTS)
    host = ProgramHost(emulator_factory, tmp_path)
    options = ["-p", "xdist", "-n", "2", "-W", "error"]
    variables = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **STRICT}
    host.run("-m", "pytest", "-q", *options, "test_user.py", **variables)
    results = [json.loads(path.read_text()) for path in tmp_path.glob("gw[01]-*.json")]
    assert len(results) == 8
    host.check(list(chain.from_iterable(results)))
