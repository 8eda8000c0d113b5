"""schemathesis finds no responses that violate the published OpenAPI files."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from interop_support import REPOSITORY, require_part

if TYPE_CHECKING:
    from collections.abc import Callable

    from imds_identity.emulator import Emulator

pytestmark = pytest.mark.interop

PUBLISHED = REPOSITORY / "tests/openapi"
VERSIONS = ["2018-02-01", "2019-11-01", "2021-12-13", "2023-07-01"]


@pytest.mark.parametrize("version", VERSIONS)
def test_responses_conform_to_the_published_api(
    emulator_factory: Callable[..., Emulator], tmp_path: Path, version: str
) -> None:
    require_part("clients")
    published = PUBLISHED / version / "imds.json"
    command = Path(sys.executable).parent / "schemathesis"
    if not command.exists() and shutil.which("schemathesis") is None:
        pytest.skip("schemathesis is not installed")
    # The real service returns "invalid_resource" from Entra, which the OpenAPI files do not list.
    emulator = emulator_factory("vm", key_vault=False, resources=["*"])
    done = subprocess.run(
        [command, "run", published, "--url", f"{emulator.endpoint}/metadata",
         "--max-examples", "25", "--seed", "1", "--phases", "examples,fuzzing",
         "--checks", ("not_a_server_error,status_code_conformance,content_type_conformance,"
         "response_schema_conformance")],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]
