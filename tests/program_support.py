"""Runs programs, such as those in tests/programs, against an emulator; checks their tokens."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from imds_identity.emulator import Emulator

PROGRAMS = Path(__file__).with_name("programs")
RESOURCES = tuple(f"https://resource-{number}.example" for number in range(3))


class ProgramHost:
    """An emulated VM on which programs run.

    Args:
        emulator_factory: the fixture.
        directory: an empty directory: the working directory, with the shared token cache.
        python: the interpreter of the programs.
        import_path: folders from which they import modules.
        latency: the seconds that the service takes for each response.
    """

    def __init__(
        self,
        emulator_factory: Callable[..., Emulator],
        directory: Path,
        python: Path | str = sys.executable,
        import_path: tuple[Path, ...] = (PROGRAMS,),
        latency: float = 0.02,
    ) -> None:
        self.directory = directory
        self.python = python
        self._import_path = os.pathsep.join(map(str, import_path))
        self.emulator = emulator_factory(
            key_vault=False, latency=latency, resources=["https://*.example"]
        )

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables of programs."""
        return {
            **os.environ,
            **self.emulator.environment(),
            "IMDS_IDENTITY_CACHE": str(self.directory / "shared"),
            "PYTHONPATH": self._import_path,
        }

    def run(self, *arguments: str, **variables: str) -> str:
        """Run Python without errors and warnings; return what it prints."""
        done = subprocess.run(
            [self.python, *arguments], env={**self.environment, **variables},
            cwd=self.directory, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, ""), (done.stdout + done.stderr)[-5000:]
        return done.stdout

    def run_job(self, *arguments: str, **variables: str) -> dict[str, Any]:
        """Run a program that prints digests as JSON; check that one request fetched each token."""
        result: dict[str, Any] = json.loads(self.run(*arguments, **variables))
        self.check(result["digests"])
        return result

    def check(self, digests: list[list[str]]) -> None:
        """Check that all jobs got the same tokens, each of which was fetched with one request."""
        fetched = [request for request in self.emulator.token_requests if request.status == 200]
        assert sorted(request.query["resource"] for request in fetched) == list(RESOURCES)
        issued = {token.resource: token.value for token in self.emulator.issued_tokens}
        expected = [hashlib.sha256(issued[each].encode()).hexdigest() for each in RESOURCES]
        assert digests
        assert all(each == expected for each in digests)
