"""The wheel, as its users install it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from .conftest import REPOSITORY, TOOLS, Environment, bare, uv

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .conftest import Published

pytestmark = pytest.mark.package
USERS_PROGRAM = REPOSITORY / "tests" / "typing_usage.py"


@pytest.fixture(scope="session")
def plain(installed: Callable[..., Environment]) -> Environment:
    """Nothing but the wheel and what it needs."""
    return installed()


@contextmanager
def emulator(environment: Environment, where: Path) -> Iterator[dict[str, str]]:
    """What a client exports for an emulator that another environment runs."""
    command = [str(environment.bin / "imds-identity"), "emulator", "--port", "0", "--no-admin"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=where, env=bare()
    ) as process:
        assert process.stdout
        try:
            lines = (line.removeprefix("export ").strip() for line in process.stdout)
            name, _, value = next(each for each in lines if "AUTHORITY_HOST=" in each).partition(
                "="
            )
            yield {name: value}
        finally:
            process.terminate()


def test_nothing_that_it_needs_is_missing(plain: Environment, tmp_path: Path) -> None:
    uv("pip", "check", "--quiet", "--python", plain.python)
    done = plain.run("imds-identity", "--version", cwd=tmp_path)
    assert done.stdout.startswith("imds-identity ")


def test_a_token_comes_from_an_emulator_in_another_environment(
    plain: Environment, installed: Callable[..., Environment], tmp_path: Path
) -> None:
    with emulator(installed(extras="[emulator]"), tmp_path) as exports:
        done = plain.run(
            "imds-identity", "token", "https://vault.azure.net", "--cache", "off",
            cwd=tmp_path, **exports,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count(".") == 2


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        (["imds-identity", "emulator"], "emulator"),
        (["imds-identity", "demo"], "demo"),
        (["imds-identity", "attested", "--verify", __file__], "attested"),
        (["imds-identity", "completion", "bash"], "completion"),
        (["python", "-c", "import imds_identity.httpx"], "httpx"),
        (["python", "-c", "from imds_identity.emulator import Emulator"], "emulator"),
        (
            ["python", "-c", "from imds_identity import telemetry as t; t.OpenTelemetryMetrics()"],
            "otel",
        ),
    ],
)
def test_what_needs_an_extra_says_which(
    plain: Environment, tmp_path: Path, command: list[str], extra: str
) -> None:
    done = plain.run(*command, cwd=tmp_path)
    assert done.returncode == 1
    assert f"pip install 'imds-identity[{extra}]'" in done.stderr


@pytest.fixture(scope="session")
def user(installed: Callable[..., Environment]) -> Environment:
    """Somebody who uses clients of Azure."""
    return installed("azure-keyvault-secrets", "types-requests")


def test_mypy_knows_its_types(user: Environment, tmp_path: Path) -> None:
    program = str(shutil.copy(USERS_PROGRAM, tmp_path))
    done = Environment(TOOLS).run(
        "mypy", "--strict", "--python-executable", user.python, program, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout


def test_pyright_knows_its_types(user: Environment, tmp_path: Path) -> None:
    shutil.copy(USERS_PROGRAM, tmp_path)
    settings = {"typeCheckingMode": "strict", "reportUnnecessaryTypeIgnoreComment": "error"}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    done = Environment(TOOLS).run("pyright", "--pythonpath", user.python, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_its_tests_pass_with_the_oldest_of_what_it_needs(
    published: Published, tmp_path: Path
) -> None:
    source, venv = published.unpacked(tmp_path / "source"), str(tmp_path / "venv")
    uv("venv", "--quiet", "--python", sys.executable, venv)
    install = ["pip", "install", "--quiet", "--python", venv]
    oldest = ["--resolution", "lowest-direct", "-r", "pyproject.toml", "--extra", "dev"]
    uv(*install, *oldest, cwd=source)
    uv(*install, "--no-deps", str(published.wheel))
    done = Environment(tmp_path / "venv" / TOOLS.name).run(
        *("python", "-m", "pytest", "-q", "-n", "4"),
        # What other projects' packages do is told of their newest.
        "--ignore=tests/integration/test_comparison.py",
        cwd=source,
    )
    print(done.stdout[-10_000:])
    assert done.returncode == 0
