"""The wheel as users install it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from .conftest import REPOSITORY, TOOLS, Environment, clean_environ, uv

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .conftest import Distributions

pytestmark = pytest.mark.package
TYPED_PROGRAM = REPOSITORY / "tests" / "typing_usage.py"


@pytest.fixture(scope="session")
def plain(install_wheel: Callable[..., Environment]) -> Environment:
    """Return an environment with only the wheel and its dependencies."""
    return install_wheel()


@contextmanager
def run_emulator(environment: Environment, where: Path) -> Iterator[dict[str, str]]:
    """Run an emulator in another environment; yield the variables of its clients."""
    command = [str(environment.bin / "imds-identity"), "emulator", "--port", "0", "--no-admin"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=where,
        env=clean_environ(),
    ) as process:
        assert process.stdout
        try:
            lines = (line.removeprefix("export ").strip() for line in process.stdout)
            name, _, value = next(line for line in lines if "AUTHORITY_HOST=" in line).partition(
                "="
            )
            yield {name: value}
        finally:
            process.terminate()


def test_no_dependency_is_missing(plain: Environment, tmp_path: Path) -> None:
    uv("pip", "check", "--quiet", "--python", plain.python)
    done = plain.run("imds-identity", "--version", cwd=tmp_path)
    assert done.stdout.startswith("imds-identity ")


def test_command_gets_a_token_from_an_emulator_in_another_environment(
    plain: Environment, install_wheel: Callable[..., Environment], tmp_path: Path
) -> None:
    with run_emulator(install_wheel(extras="[emulator]"), tmp_path) as variables:
        done = plain.run(
            "imds-identity", "token", "https://vault.azure.net", "--cache", "off",
            cwd=tmp_path, **variables,
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
        (["python", "-c", "import imds_identity.keyring"], "keyring"),
        (["python", "-c", "from imds_identity.emulator import Emulator"], "emulator"),
        (
            ["python", "-c", "from imds_identity import telemetry as t; t.OpenTelemetryMetrics()"],
            "otel",
        ),
    ],
)
def test_missing_extra_is_named(
    plain: Environment, tmp_path: Path, command: list[str], extra: str
) -> None:
    done = plain.run(*command, cwd=tmp_path)
    assert done.returncode == 1
    assert f"pip install 'imds-identity[{extra}]'" in done.stderr


@pytest.fixture(scope="session")
def user(install_wheel: Callable[..., Environment]) -> Environment:
    """Return the environment of a user of Azure clients."""
    return install_wheel("azure-keyvault-secrets", "types-requests")


def test_mypy_accepts_typed_programs(user: Environment, tmp_path: Path) -> None:
    program = str(shutil.copy(TYPED_PROGRAM, tmp_path))
    done = Environment(TOOLS).run(
        "mypy", "--strict", "--python-executable", user.python, program, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout


def test_pyright_accepts_typed_programs(user: Environment, tmp_path: Path) -> None:
    shutil.copy(TYPED_PROGRAM, tmp_path)
    settings = {"typeCheckingMode": "strict", "reportUnnecessaryTypeIgnoreComment": "error"}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    done = Environment(TOOLS).run("pyright", "--pythonpath", user.python, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_pyright_knows_the_types_of_the_public_api(user: Environment, tmp_path: Path) -> None:
    """At least 95 % of the names; pyright finds the package through PATH, without an option."""
    command = ("pyright", "--verifytypes", "imds_identity", "--ignoreexternal", "--outputjson")
    path = os.pathsep.join([str(user.bin), os.environ["PATH"]])
    done = Environment(TOOLS).run(*command, cwd=tmp_path, PATH=path)
    report = json.loads(done.stdout)["typeCompleteness"]
    assert report["completenessScore"] >= 0.95


def test_tests_pass_with_the_oldest_dependencies(
    distributions: Distributions, tmp_path: Path
) -> None:
    source, venv = distributions.unpack(tmp_path / "source"), str(tmp_path / "venv")
    uv("venv", "--quiet", "--python", sys.executable, venv)
    install = ["pip", "install", "--quiet", "--python", venv]
    oldest = ["--resolution", "lowest-direct", "-r", "pyproject.toml", "--extra", "dev"]
    uv(*install, *oldest, cwd=source)
    uv(*install, "--no-deps", str(distributions.wheel))
    done = Environment(tmp_path / "venv" / TOOLS.name).run(
        *("python", "-m", "pytest", "-q", "-n", "4"),
        # The comparison describes the newest versions of other packages.
        "--ignore=tests/integration/test_comparison.py",
        cwd=source,
    )
    print(done.stdout[-10_000:])
    assert done.returncode == 0
