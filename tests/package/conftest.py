"""What is published, built once, and the environments of those who install it."""

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
# What says where this process finds its packages is not to reach another environment.
_OURS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTEST_ADDOPTS")


class Published(NamedTuple):
    """The two files of a release."""

    sdist: Path
    wheel: Path

    @property
    def metadata(self) -> Message:
        """What the wheel says of itself."""
        with zipfile.ZipFile(self.wheel) as archive:
            [name] = [each for each in archive.namelist() if each.endswith("/METADATA")]
            return message_from_bytes(archive.read(name))

    def unpacked(self, where: Path) -> Path:
        """The folder that the sdist is unpacked to."""
        with tarfile.open(self.sdist) as archive:
            archive.extractall(where, filter="fully_trusted")  # it is our own
        [folder] = where.iterdir()
        return folder


class Environment(NamedTuple):
    """A virtual environment of somebody who has installed the package."""

    bin: Path

    @property
    def python(self) -> str:
        """Its interpreter."""
        return str(self.bin / "python")

    def run(
        self, name: str, *arguments: str, cwd: Path = REPOSITORY, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """A command of this environment that has ended."""
        return subprocess.run(
            [self.bin / name, *arguments],
            capture_output=True,
            text=True,
            env=bare() | variables,
            cwd=cwd,
            check=False,
        )


def bare() -> dict[str, str]:
    """This process's environment without what is for this process alone."""
    return {name: value for name, value in os.environ.items() if name not in _OURS}


def build(source: Path, to: Path, *, variables: dict[str, str], umask: int = 0o022) -> Published:
    """Build the sdist, and the wheel from it."""
    subprocess.run(
        [TOOLS / "python", "-m", "build", "--installer", "uv", "--outdir", to, source],
        env=bare() | {"PATH": f"{TOOLS}{os.pathsep}{os.environ['PATH']}"} | variables,
        umask=umask,
        check=True,
        cwd=to.parent,
    )
    [sdist], [wheel] = to.glob("*.tar.gz"), to.glob("*.whl")
    return Published(sdist, wheel)


@pytest.fixture(scope="session")
def date() -> dict[str, str]:
    """The variable that dates a build: the moment of the commit that is built."""
    if "SOURCE_DATE_EPOCH" in os.environ or not (REPOSITORY / ".git").exists():
        return {}
    commit = ["git", "log", "-1", "--format=%ct"]
    return {"SOURCE_DATE_EPOCH": subprocess.check_output(commit, cwd=REPOSITORY, text=True).strip()}


@pytest.fixture(scope="session")
def published(date: dict[str, str]) -> Published:
    """What is built of this repository; it stays in dist/."""
    dist = REPOSITORY / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    return build(REPOSITORY, dist, variables=date)


@pytest.fixture(scope="session")
def installed(
    published: Published, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Environment]:
    """Makes an environment in which the wheel and nothing but what is named is installed."""

    def install(*others: str, extras: str = "") -> Environment:
        venv = tmp_path_factory.mktemp("environment")
        uv("venv", "--quiet", "--clear", "--python", sys.executable, str(venv))
        wheel = f"imds-identity{extras} @ {published.wheel.as_uri()}"
        uv("pip", "install", "--quiet", "--python", str(venv), wheel, *others)
        return Environment(venv / TOOLS.name)

    return install


def uv(*arguments: str, cwd: Path = REPOSITORY) -> None:
    """Run uv."""
    subprocess.run([TOOLS / "uv", *arguments], env=bare(), cwd=cwd, check=True)
