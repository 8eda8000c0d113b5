"""The sdist and the wheel, built once, and virtual environments of users."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from email.message import Message

REPOSITORY = Path(__file__).parents[2]
TOOLS = Path(sys.executable).parent
# Variables that would make another environment use the packages of this process.
_PROCESS_VARIABLES = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTEST_ADDOPTS")


class Distributions(NamedTuple):
    """The sdist and the wheel of a release."""

    sdist: Path
    wheel: Path

    @property
    def metadata(self) -> Message:
        """Return the metadata of the wheel."""
        with zipfile.ZipFile(self.wheel) as archive:
            [name] = [each for each in archive.namelist() if each.endswith("/METADATA")]
            return message_from_bytes(archive.read(name))

    def unpack(self, where: Path) -> Path:
        """Unpack the sdist; return its folder."""
        with tarfile.open(self.sdist) as archive:
            archive.extractall(where, filter="fully_trusted")  # built from this repository
        [folder] = where.iterdir()
        return folder


class Environment(NamedTuple):
    """A virtual environment in which the package is installed."""

    bin: Path

    @property
    def python(self) -> str:
        """Return the path of its interpreter."""
        return str(self.bin / "python")

    def run(
        self, name: str, *arguments: str, cwd: Path = REPOSITORY, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of this environment."""
        return subprocess.run(
            [self.bin / name, *arguments],
            capture_output=True,
            text=True,
            env=clean_environ() | variables,
            cwd=cwd,
            check=False,
        )


def clean_environ() -> dict[str, str]:
    """Return this process's environment variables for another environment."""
    return {name: value for name, value in os.environ.items() if name not in _PROCESS_VARIABLES}


def build(
    source: Path, to: Path, *, variables: dict[str, str], umask: int = 0o022
) -> Distributions:
    """Build the sdist, and the wheel from the sdist."""
    subprocess.run(
        [TOOLS / "python", "-m", "build", "--installer", "uv", "--outdir", to, source],
        env=clean_environ() | {"PATH": f"{TOOLS}{os.pathsep}{os.environ['PATH']}"} | variables,
        umask=umask,
        check=True,
        cwd=to.parent,
    )
    [sdist], [wheel] = to.glob("*.tar.gz"), to.glob("*.whl")
    return Distributions(sdist, wheel)


@pytest.fixture(scope="session")
def build_date() -> dict[str, str]:
    """Return SOURCE_DATE_EPOCH: the time of the current commit."""
    if "SOURCE_DATE_EPOCH" in os.environ or not (REPOSITORY / ".git").exists():
        return {}
    commit = ["git", "log", "-1", "--format=%ct"]
    return {"SOURCE_DATE_EPOCH": subprocess.check_output(commit, cwd=REPOSITORY, text=True).strip()}


@pytest.fixture(scope="session")
def distributions(build_date: dict[str, str]) -> Distributions:
    """Build the distributions of this repository in dist/."""
    dist = REPOSITORY / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    return build(REPOSITORY, dist, variables=build_date)


@pytest.fixture(scope="session")
def install_wheel(
    distributions: Distributions, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Environment]:
    """Create virtual environments with the wheel and the given packages."""

    def install(*packages: str, extras: str = "") -> Environment:
        venv = tmp_path_factory.mktemp("environment")
        uv("venv", "--quiet", "--clear", "--python", sys.executable, str(venv))
        wheel = f"imds-identity{extras} @ {distributions.wheel.as_uri()}"
        uv("pip", "install", "--quiet", "--python", str(venv), wheel, *packages)
        return Environment(venv / TOOLS.name)

    return install


def uv(*arguments: str, cwd: Path = REPOSITORY) -> None:
    """Run uv."""
    subprocess.run([TOOLS / "uv", *arguments], env=clean_environ(), cwd=cwd, check=True)
