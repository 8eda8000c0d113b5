"""Facts of healthy and broken machines, and the doctor's findings about them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from imds_identity._core.failure import Reason, Refused
from imds_identity._core.identity import SYSTEM_ASSIGNED
from imds_identity._platform.environment import Environment
from imds_identity._sources.explain import explain
from imds_identity._sources.firmware import Firmware
from imds_identity._sources.registry import detect
from imds_identity.doctor._facts.facts import (
    Facts,
    Network,
    RequestRecord,
    Route,
    ServiceProbe,
    System,
)
from imds_identity.doctor.diagnosis import Diagnosis, run_checks

if TYPE_CHECKING:
    from imds_identity.doctor.finding import Finding

IMDS = "169.254.169.254"
NOW = 1_750_000_000.0
TOKEN = RequestRecord("/metadata/identity/oauth2/token", 200, clock_offset=0.5)
METADATA = RequestRecord("/metadata/instance", 200, {"content-type": "application/json"})
CLAIMS = {"aud": "https://vault.azure.net", "oid": "me", "nbf": NOW - 60, "exp": NOW + 86000}
ISSUED = ServiceProbe(0.001, metadata=METADATA, requests=(METADATA, TOKEN), claims=CLAIMS)
TIMED_OUT = ServiceProbe(connect_error="no connection within 1.5 s")
ARC = {"IDENTITY_ENDPOINT": "http://localhost:40342/token", "IMDS_ENDPOINT": "http://localhost"}
WORKLOAD = {
    "AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c", "AZURE_FEDERATED_TOKEN_FILE": "/token",
}  # fmt: skip
ETH0 = Route("eth0", "0.0.0.0/0", "10.0.0.1", 100)
ROUTED = Network(IMDS, "10.0.0.4", routes=(ETH0,), has_ipv4=True, has_ipv6=False)


def facts(
    variables: dict[str, str] | None = None, probe: ServiceProbe = ISSUED, **more: Any
) -> Facts:
    environment = Environment(variables or {})
    known = {
        "resource": "https://vault.azure.net",
        "identity": SYSTEM_ASSIGNED,
        "source": detect(environment=environment),
        "explanation": explain(environment=environment),
        "environment": environment,
        "firmware": Firmware(),
        "system": System(NOW),
        "probe": probe,
    }
    return Facts(**{**known, **more})


def refused(
    reason: Reason, status: int | None = 400, code: str = "", text: str = ""
) -> ServiceProbe:
    response = TOKEN._replace(status=status or 0)
    return ServiceProbe(
        0.001, metadata=METADATA, requests=(METADATA, response),
        failure=Refused(text, reason=reason, status=status, service_code=code),
    )  # fmt: skip


def finding(diagnosis: Diagnosis, number: str) -> Finding:
    [found] = [finding for finding in diagnosis.findings if finding.id == number]
    return found


def cause(facts: Facts) -> str:
    diagnosis = run_checks(facts)
    assert diagnosis.cause is not None
    return diagnosis.cause.id
