"""The doctor's remedies, run on broken machines: afterwards the check that failed is healthy."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_doctor_machines import missing_requirement

from doctor_facts import ARC, ISSUED, WORKLOAD, facts, finding
from imds_identity._core.failure import Refused
from imds_identity._http.exchange import ErrorKind
from imds_identity.doctor._facts.facts import RequestRecord, ServiceProbe, WorkloadToken
from imds_identity.doctor.diagnosis import run_checks

SCRIPT = Path(__file__).parent / "doctor_fixes.py"


def test_remedies_correct_machines() -> None:
    if missing_requirement() or not shutil.which("usermod"):
        pytest.skip(missing_requirement() or "requires usermod")
    completed = subprocess.run(
        [sys.executable, str(SCRIPT)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(SCRIPT.parents[1])},
    )
    assert not completed.stderr, completed.stderr
    results = [json.loads(line) for line in completed.stdout.splitlines()]
    assert len(results) == 12
    for machine, before, remedy, after, seen in results:
        assert (before, after) == ("failure", "ok"), f"{machine}: {remedy}: {seen}"


LEFT_OVER = ServiceProbe(connect_error="text", connect_kind=ErrorKind.REFUSED)
DEAD_PROXY = ServiceProbe(
    requests=(RequestRecord("/token", kind=ErrorKind.REFUSED, connect_failed=True),),
    failure=Refused("text"),
)
APP = {"IDENTITY_ENDPOINT": "http://127.0.0.1:41741/msi/token", "IDENTITY_HEADER": "secret"}
SETTINGS = {
    "proxy": ({"http_proxy": "http://p:1"}, ISSUED, "II024"),
    "proxy with exceptions": ({"http_proxy": "http://p:1", "NO_PROXY": "other"}, ISSUED, "II024"),
    "proxy with two lists": (
        {"ALL_PROXY": "http://p:1", "NO_PROXY": "169.254.169.254", "no_proxy": "x"}, ISSUED,
        "II024",
    ),
    "dead proxy of a pod": (
        {**WORKLOAD, "HTTPS_PROXY": "http://p:1", "no_proxy": "other"}, DEAD_PROXY, "II024",
    ),
    "variable of another host": ({"IDENTITY_HEADER": "secret"}, ISSUED, "II002"),
    "all variables of other hosts": (
        {"IDENTITY_HEADER": "secret", "MSI_SECRET": "s", "IMDS_ENDPOINT": "http://x"}, ISSUED,
        "II002",
    ),
    "app that is gone": (APP, LEFT_OVER, "II002"),
    "Cloud Shell that is gone": ({"MSI_ENDPOINT": "http://localhost:50342"}, LEFT_OVER, "II002"),
    "pod that is gone": (WORKLOAD, ServiceProbe(failure=Refused("text")), "II010"),
    "service principal": (
        {"AZURE_CLIENT_ID": "c", "AZURE_TENANT_ID": "t", "AZURE_CLIENT_SECRET": "s"}, ISSUED,
        "II006",
    ),
    "endpoint without a scheme": (
        {"AZURE_POD_IDENTITY_AUTHORITY_HOST": "169.254.169.254"}, ISSUED, "II001",
    ),
    "agent that is not installed": (ARC, LEFT_OVER, "II030"),
    "endpoint that leads nowhere": (
        {"AZURE_POD_IDENTITY_AUTHORITY_HOST": "http://10.0.0.77"}, LEFT_OVER, "II023",
    ),
}  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="requires a POSIX shell")
@pytest.mark.parametrize("name", SETTINGS)
def test_remedy_corrects_the_environment(name: str) -> None:
    variables, probe, number = SETTINGS[name]
    workload = WorkloadToken("/token", "text", is_missing=True)
    has_scheme = "//" in variables.get("AZURE_POD_IDENTITY_AUTHORITY_HOST", "//")
    problem = "" if has_scheme else "text"
    broken = finding(
        run_checks(facts(variables, probe, endpoint_problem=problem, workload=workload)), number
    )
    assert broken.status in ("failure", "warning")
    completed = subprocess.run(
        ["sh", "-ec", f"{broken.remedy}\nenv -0"],
        capture_output=True,
        text=True,
        check=True,
        env={**variables, "PATH": os.environ["PATH"]},
    )
    lines = (line.partition("=") for line in completed.stdout.split("\0"))
    after = {name: value for name, _, value in lines if value}
    # With another source, the probe would be another one, too.
    is_same = all(after.get(name) == value for name, value in variables.items())
    probe = probe if is_same else ISSUED
    fixed = run_checks(facts(after, probe, workload=workload))
    assert finding(fixed, number).status in ("ok", "skipped")
