"""Dask, Ray and Spark: one token request a machine, however many workers each of them has there."""

from __future__ import annotations

import json
import os
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from azurite_support import running_azurite
from interop_support import REPOSITORY, part

from documents import blocks
from fake_azure import FakeAzure
from imds_identity import ManagedIdentityCredential

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


def settings(python: Path) -> dict[str, str]:
    """The variables with which programs for ``python`` are run."""
    return {
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY / "src"), str(CLUSTERS)]),
        "PYSPARK_PYTHON": str(python),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def run(
    framework: str, emulator: Emulator, cache: Path, *command: str, **variables: str
) -> list[str]:
    """The lines that a Python program prints, run where ``framework`` is installed."""
    python = part(framework) / framework / "bin/python"
    done = subprocess.run(
        [python, *command],
        env={
            **os.environ,
            **emulator.environment(),
            **variables,
            "IMDS_IDENTITY_CACHE": str(cache),
            **settings(python),
        },
        capture_output=True, text=True, check=False, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    return done.stdout.splitlines()


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_workers_and_those_that_replace_them_cause_one_request_a_token(
    framework: str, emulator_factory: Callable[..., Emulator], tmp_path: Path
) -> None:
    emulator = emulator_factory(key_vault=False)
    emulator.fault(token_lifetime=20, times=1)  # the first token falls due while all work
    command = [str(CLUSTERS), framework, str(WORKERS)]
    found: dict[str, Any] = json.loads(run(framework, emulator, tmp_path / "shared", *command)[-1])
    assert len(found["outlived"]) == WORKERS
    assert len({tuple(tokens) for tokens in found["outlived"]}) == 1
    assert len(found["outlived"][0]) == 2
    visits = found["before"] + found["after"]
    assert len({process for process, _ in visits}) == 2 * WORKERS
    assert {token for _, token in visits} == {found["outlived"][0][1]}
    assert not found["a token is pickled"]
    assert len(emulator.token_requests) == 2


@pytest.fixture(scope="module")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    with running_azurite(tmp_path_factory.mktemp("azurite")) as started:
        yield started


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_example_counts_lines_with_one_token_request(
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
    said = run(
        framework, imds_emulator, tmp_path / "shared", example, azurite["blob"], framework,
        REQUESTS_CA_BUNDLE=azurite["verify"],
    )  # fmt: skip
    assert set(said) >= {f"{day} day-{day}.csv" for day in range(1, 6)}
    assert len(imds_emulator.token_requests) == before + 1


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_page_of_documentation_shows_what_runs(framework: str, tmp_path: Path) -> None:
    python = part(framework) / framework / "bin/python"
    program = tmp_path / "program.py"
    imported = {"dask": "from distributed import", "ray": "import ray", "spark": "from pyspark"}
    [shown] = [each.text for each in blocks(PAGE, "python") if imported[framework] in each.text]
    program.write_text(shown)
    with FakeAzure(tmp_path) as world:
        world.environment |= settings(python)
        done = world.run(str(python), str(program))
        assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
        assert world.sites.refused == []
        assert len(world.sites.granted) == len(re.findall(r"day-\d", program.read_text()))
        assert len(world.emulator.token_requests) == 1
