"""gevent and eventlet, which patch the standard library before or after this package is used."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from interop_support import require_part

from support import TlsServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from imds_identity.emulator import Emulator

pytestmark = pytest.mark.interop

FOLDER = Path(__file__).parent
STRICT = {"PYTHONDEVMODE": "1", "PYTHONWARNINGS": "error"}
LATENCY = 0.2
AT_ONCE = 5
LIBRARIES = pytest.mark.parametrize("library", ["gevent", "eventlet"])
MOMENTS = pytest.mark.parametrize("when", ["before-import", "after-import", "after-use"])


def fetch(library: str, when: str, resources: int, variables: dict[str, str]) -> dict[str, int]:
    """Return what the program that fetches tokens prints."""
    return run("green_fetches.py", library, when, str(resources), **variables)


def run(program: str, *arguments: str, **variables: str) -> dict[str, int]:
    """Return what a program prints."""
    python = require_part("programs") / "programs/bin/python"
    done = subprocess.run(
        [python, FOLDER / program, *arguments],
        env={**os.environ, **STRICT, **variables},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stderr[-5000:]
    result: dict[str, int] = json.loads(done.stdout)
    return result


@LIBRARIES
@MOMENTS
def test_new_resources_at_once_block_no_other_green_thread(
    library: str, when: str, emulator_factory: Callable[..., Emulator], tmp_path: Path
) -> None:
    emulator = emulator_factory(latency=LATENCY, resources=["https://*.example"])
    variables = {**emulator.environment(), "IMDS_IDENTITY_CACHE": str(tmp_path / "shared")}
    result = fetch(library, when, AT_ONCE, variables)
    assert result["tokens"] == AT_ONCE
    assert result["steps"] > AT_ONCE  # about 20 for each response
    assert len(emulator.token_requests) == AT_ONCE + (when == "after-use")
    assert {request.status for request in emulator.token_requests} == {200}


@LIBRARIES
def test_child_of_a_green_thread_leaves_the_response_to_its_parent(
    library: str, emulator_factory: Callable[..., Emulator], tmp_path: Path
) -> None:
    """Libraries copy the green thread that fetches."""
    emulator = emulator_factory(latency=4 * LATENCY, resources=["https://*.example"])
    variables = {**emulator.environment(), "IMDS_IDENTITY_CACHE": str(tmp_path / "shared")}
    result = run("green_fork.py", library, **variables)
    assert result == {"tokens": 1, "status": 0}
    assert len(emulator.token_requests) == 1


def test_eventlet_runs_on_an_event_loop_of_asyncio(
    emulator_factory: Callable[..., Emulator], tmp_path: Path
) -> None:
    emulator = emulator_factory(latency=LATENCY, resources=["https://*.example"])
    variables = {**emulator.environment(), "IMDS_IDENTITY_CACHE": "off", "EVENTLET_HUB": "asyncio"}
    assert fetch("eventlet", "before-import", AT_ONCE, variables)["steps"] > AT_ONCE


@LIBRARIES
@MOMENTS
def test_tokens_are_fetched_over_tls(library: str, when: str, tmp_path: Path) -> None:
    """The original class of TLS contexts, which urllib3 has imported, no longer works."""
    assertion = tmp_path / "assertion"
    assertion.write_text("an-assertion")
    body = json.dumps({"access_token": "a-token", "expires_in": 3600}).encode()
    with TlsServer(tmp_path, b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body) as entra_id:
        variables = {
            "AZURE_AUTHORITY_HOST": entra_id.url,
            "AZURE_CLIENT_ID": "c",
            "AZURE_FEDERATED_TOKEN_FILE": str(assertion),
            "AZURE_TENANT_ID": "a-tenant",
            "REQUESTS_CA_BUNDLE": entra_id.certificates,
        }
        assert fetch(library, when, 1, variables)["tokens"] == 1


@contextmanager
def gunicorn(
    directory: Path, emulator: Emulator, *options: str
) -> Iterator[tuple[Callable[[str], str], Path]]:
    """Run the application under gunicorn; return a function that sends a request, and the log.

    The configuration fetches a token, and only then a worker patches the standard library.
    """
    (directory / "gunicorn.conf.py").write_text(
        "import imds_identity\n"
        "scope = 'https://resource-0.example/.default'\n"
        "imds_identity.ManagedIdentityCredential().get_token(scope)\n"
        "worker_class, workers, timeout, bind = 'gevent', 1, 5, '127.0.0.1:0'\n"
    )
    log = directory / "gunicorn.log"
    shared = {"IMDS_IDENTITY_CACHE": str(directory / "shared")}
    environment = {**os.environ, **emulator.environment(), **shared}
    program = require_part("programs") / "programs/bin/gunicorn"
    command: list[str | Path] = [program, "wsgi_app", "--pythonpath", FOLDER, *options]
    with (
        log.open("w") as file,
        subprocess.Popen(
            command,
            env=environment,
            cwd=directory,
            stdout=file,
            stderr=file,
            start_new_session=True,
        ) as process,
    ):
        try:
            url = f"http://{bound_address(log)}"

            def get(path: str) -> str:
                with urllib.request.urlopen(url + path, timeout=60) as response:
                    text: str = response.read().decode()
                    return text

            yield get, log
            process.terminate()
            process.wait(30)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            raise AssertionError(log.read_text()[-5000:]) from error


def bound_address(log: Path) -> str:
    """Return the address that gunicorn has chosen."""
    for _ in range(300):
        if bound := re.search(r"Listening at: http://(127\.0\.0\.1:[0-9]+)", log.read_text()):
            return bound[1]
        time.sleep(0.1)
    raise AssertionError("gunicorn has not started")


@pytest.mark.parametrize("options", [[], ["--preload"]], ids=str)
def test_gunicorn_kills_no_gevent_worker_that_fetches_tokens(
    options: list[str], emulator_factory: Callable[..., Emulator], tmp_path: Path
) -> None:
    emulator = emulator_factory(latency=LATENCY, resources=["https://*.example"])
    paths = [f"/{number}" for number in range(2 * AT_ONCE)]
    with gunicorn(tmp_path, emulator, *options) as (get, log):
        with ThreadPoolExecutor(len(paths)) as clients:
            responses = [response.split() for response in clients.map(get, paths)]
        assert "TIMEOUT" not in log.read_text()
    assert len({process for process, _ in responses}) == 1
    assert len({digest for _, digest in responses}) == len(paths)
    assert {request.status for request in emulator.token_requests} == {200}
