"""schemathesis, given the published OpenAPI, finds no 500 and no undocumented answer."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from interop_support import REPOSITORY, part

if TYPE_CHECKING:
    from collections.abc import Callable

    from imds_identity.emulator import Emulator

pytestmark = pytest.mark.interop

PUBLISHED = REPOSITORY.parent / "shared/reference/imds-openapi"
VERSIONS = ["2018-02-01", "2019-11-01", "2021-12-13", "2023-07-01"]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_published_api_is_kept(
    emulator_factory: Callable[..., Emulator], tmp_path: Path, version: str
) -> None:
    part("clients")
    published = PUBLISHED / version / "imds.json"
    if not published.exists():
        pytest.skip("the published OpenAPI files are not here")
    command = Path(sys.executable).parent / "schemathesis"
    if not command.exists() and shutil.which("schemathesis") is None:
        pytest.skip("no schemathesis")
    # The service passes on Entra's "invalid_resource", which the published OpenAPI does not list.
    emulator = emulator_factory("vm", key_vault=False, resources=["*"])
    done = subprocess.run(
        [command, "run", published, "--url", f"{emulator.endpoint}/metadata",
         "--max-examples", "25", "--seed", "1", "--phases", "examples,fuzzing",
         "--checks", ("not_a_server_error,status_code_conformance,content_type_conformance,"
         "response_schema_conformance")],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]
