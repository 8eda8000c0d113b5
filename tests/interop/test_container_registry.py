"""Container programs with docker-credential-imds-identity and a stub registry over TLS."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import jwt
import pytest

from fake_registry import IMAGE, OTHER, REGISTRY, FakeRegistry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from imds_identity.emulator import Emulator

pytestmark = pytest.mark.interop

HELPER = shutil.which("docker-credential-imds-identity", path=Path(sys.executable).parent)
STORAGE = ["--storage-driver", "vfs", "--root", "{folder}/root", "--runroot", "{run}"]
PULL = {
    "skopeo": ["copy", "docker://{image}", "dir:{folder}/image"],
    "buildah": [*STORAGE, "pull", "{image}"],
    "podman": [*STORAGE, "pull", "{image}"],
    "docker": ["manifest", "inspect", "{image}"],
}


@pytest.fixture
def emulator(emulator_factory: Callable[..., Emulator]) -> Emulator:
    return emulator_factory(allowed_hosts=[REGISTRY])


@pytest.fixture
def registry(emulator: Emulator, tmp_path: Path) -> Iterator[FakeRegistry]:
    with FakeRegistry.running(emulator, tmp_path) as registry:
        yield registry


def run(registry: FakeRegistry, folder: Path, program: str, host: str = REGISTRY) -> str:
    """Pull the image with the helper; return the errors of a program that fails."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed: run make interop")
    assert HELPER
    helpers = {"credHelpers": dict.fromkeys((REGISTRY, OTHER), "imds-identity")}
    (folder / "config.json").write_text(json.dumps(helpers))
    shutil.rmtree(folder / "image", ignore_errors=True)
    with tempfile.TemporaryDirectory() as short:  # podman allows 50 characters
        names = {"image": f"{host}/{IMAGE}", "folder": folder, "run": short}
        done = subprocess.run(
            [program, *(word.format(**names) for word in PULL[program])],
            env={
                "PATH": f"{Path(HELPER).parent}{os.pathsep}{os.environ['PATH']}",
                "HOME": str(folder),
                "XDG_RUNTIME_DIR": str(folder),
                "DOCKER_CONFIG": str(folder),
                "REGISTRY_AUTH_FILE": str(folder / "config.json"),
                **registry.environment,
            },
            capture_output=True, text=True, check=False, timeout=100,
        )  # fmt: skip
    return done.stderr if done.returncode else ""


@pytest.mark.parametrize("program", PULL)
def test_image_is_pulled_with_a_token(
    registry: FakeRegistry, emulator: Emulator, tmp_path: Path, program: str
) -> None:
    assert run(registry, tmp_path, program) == ""
    assert "/v2/my-image/manifests/1" in registry.pulled
    assert len(registry.refresh_tokens) >= 1
    assert len(emulator.token_requests) == 1
    assert registry.refused == []
    stored = (tmp_path / "config.json").read_text()
    assert registry.refresh_tokens[0] not in stored


def test_expired_refresh_token_is_replaced_before_the_program_notices(
    registry: FakeRegistry, emulator: Emulator, tmp_path: Path
) -> None:
    emulator.fault(token_lifetime=8, category="registry")
    for _ in range(3):
        assert run(registry, tmp_path, "skopeo") == ""
        claims = jwt.decode(registry.refresh_tokens[-1], options={"verify_signature": False})
        # The real clock, because skopeo and the helper are other programs. A pull that starts in
        # the token's last moment could be refused.
        time.sleep(max(claims["exp"] + 1 - time.time(), 0))
    assert len({*registry.refresh_tokens}) == 3
    assert registry.refused == []
    assert len(emulator.token_requests) == 1


@pytest.mark.parametrize("program", PULL)
def test_other_registry_gets_no_token(
    registry: FakeRegistry, emulator: Emulator, tmp_path: Path, program: str
) -> None:
    """The user's configuration names the helper for it, but the helper has no credentials."""
    assert "unauthorized" in run(registry, tmp_path, program, OTHER).lower()
    assert registry.refresh_tokens == []
    assert {*registry.refused} <= {":"}
    assert emulator.requests == []
