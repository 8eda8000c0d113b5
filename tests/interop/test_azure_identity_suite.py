"""azure-identity's own managed-identity tests, run against this credential.

docs/azure-identity-tests.md lists the excluded tests with reasons.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from interop_support import require_part

pytestmark = pytest.mark.interop

ADAPTER = Path(__file__).parent / "azure_identity_adapter"
FILES = [
    "test_imds_credential.py",
    "test_imds_credential_async.py",
    "test_managed_identity.py",
    "test_managed_identity_async.py",
    "test_azure_arc.py",
]


def test_azure_identity_tests_pass(tmp_path: Path) -> None:
    home = require_part("azure-identity-suite")
    report = tmp_path / "excluded.json"
    done = subprocess.run(
        [home / "suite/bin/python", "-m", "pytest", "-q", "-c", ADAPTER / "pytest.ini",
         "--rootdir", ".", "-p", "imds_identity_adapter", *FILES],
        cwd=home / "azure-identity/tests",
        env={
            **os.environ,
            "PYTHONPATH": str(ADAPTER),
            "EXCLUDED_REPORT": str(report),
            "IMDS_IDENTITY_CACHE": "off",
        },
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed
    excluded = json.loads(report.read_text())
    print(f"{passed[0]}, {len(excluded)} excluded")
    # Counts of azure-identity 1.27, with a margin for other versions.
    assert int(passed[1]) >= 225
    assert all(excluded.values())
    assert len(excluded) <= 90
