"""Dask, Ray and Spark send one token request per machine, for any number of workers."""

from __future__ import annotations

import json
import os
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from azurite_support import run_azurite
from interop_support import REPOSITORY, require_part

from fake_azure import FakeAzure
from imds_identity import ManagedIdentityCredential
from markdown_blocks import blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from imds_identity.emulator import Emulator

pytestmark = pytest.mark.interop

CLUSTERS = REPOSITORY / "tests/interop/clusters"
FRAMEWORKS = ["dask", "ray", "spark"]
EXAMPLES = {
    "dask": "dask_workers.py",
    "ray": "ray_workers.py",
    "spark": "spark_executors.py",
}
BLOBS = {f"day-{day}.csv": b"a,b\n" * day for day in range(1, 6)}
WORKERS = 4
PAGE = "docs/how-to/distributed.md"


def framework_variables(python: Path) -> dict[str, str]:
    """Return the environment variables of programs that run with ``python``."""
    return {
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY / "src"), str(CLUSTERS)]),
        "PYSPARK_PYTHON": str(python),
        "SPARK_LOCAL_IP": "127.0.0.1",
        # These programs end before the best compiler of Java pays off.
        "JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def run(
    framework: str, emulator: Emulator, cache: Path, *command: str, **variables: str
) -> list[str]:
    """Run a Python program in the environment of ``framework``; return its lines of output."""
    python = require_part(framework) / framework / "bin/python"
    done = subprocess.run(
        [python, *command],
        env={
            **os.environ,
            **emulator.environment(),
            **variables,
            "IMDS_IDENTITY_CACHE": str(cache),
            **framework_variables(python),
        },
        capture_output=True, text=True, check=False, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    return done.stdout.splitlines()


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_workers_and_their_replacements_send_one_request_per_token(
    framework: str, emulator_factory: Callable[..., Emulator], tmp_path: Path
) -> None:
    emulator = emulator_factory(key_vault=False)
    emulator.fault(token_lifetime=20, times=1)  # the first token is due while all workers run
    command = [str(CLUSTERS), framework, str(WORKERS)]
    result: dict[str, Any] = json.loads(run(framework, emulator, tmp_path / "shared", *command)[-1])
    assert len(result["renewed"]) == WORKERS
    assert len({tuple(tokens) for tokens in result["renewed"]}) == 1
    assert len(result["renewed"][0]) == 2
    reports = result["before"] + result["after"]
    assert len({process for process, _ in reports}) == 2 * WORKERS
    assert {token for _, token in reports} == {result["renewed"][0][1]}
    assert not result["token is pickled"]
    assert len(emulator.token_requests) == 2


@pytest.fixture(scope="module")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    with run_azurite(tmp_path_factory.mktemp("azurite")) as settings:
        yield settings


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_example_counts_lines_with_one_token_request(
    framework: str, imds_emulator: Emulator, azurite: dict[str, Any], tmp_path: Path
) -> None:
    storage = pytest.importorskip("azure.storage.blob")
    with storage.ContainerClient(
        azurite["blob"],
        framework,
        ManagedIdentityCredential(),
        connection_verify=azurite["verify"],
    ) as container:
        container.create_container()
        for name, content in BLOBS.items():
            container.upload_blob(name, content)
    before = len(imds_emulator.token_requests)
    example = str(REPOSITORY / "examples" / EXAMPLES[framework])
    lines = run(
        framework, imds_emulator, tmp_path / "shared", example, azurite["blob"], framework,
        REQUESTS_CA_BUNDLE=azurite["verify"],
    )  # fmt: skip
    assert set(lines) >= {f"{day} day-{day}.csv" for day in range(1, 6)}
    assert len(imds_emulator.token_requests) == before + 1


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_code_on_the_documentation_page_runs(framework: str, tmp_path: Path) -> None:
    python = require_part(framework) / framework / "bin/python"
    program = tmp_path / "program.py"
    imports = {"dask": "from distributed import", "ray": "import ray", "spark": "from pyspark"}
    [code] = [each.text for each in blocks(PAGE, "python") if imports[framework] in each.text]
    program.write_text(code)
    with FakeAzure(tmp_path) as azure:
        azure.environment |= framework_variables(python)
        done = azure.run(str(python), str(program))
        assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
        assert azure.sites.unauthorized == []
        assert len(azure.sites.authorized) == len(re.findall(r"day-\d", program.read_text()))
        assert len(azure.emulator.token_requests) == 1
