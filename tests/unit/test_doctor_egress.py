"""Connections to services on the internet, which only --network probes."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest

from doctor_facts import ARC, ISSUED, WORKLOAD, cause, facts, finding, refused
from imds_identity._core.failure import Reason
from imds_identity._http.exchange import ErrorKind
from imds_identity._platform.environment import Environment
from imds_identity._sources.registry import detect
from imds_identity.doctor._facts import egress
from imds_identity.doctor._facts.egress import EgressProbes, hosts_for, probe_host
from imds_identity.doctor._facts.facts import EgressProbe
from imds_identity.doctor.diagnosis import run_checks
from support import FakeClock, RawServer, TlsServer

if TYPE_CHECKING:
    from pathlib import Path

ENTRA = "login.microsoftonline.com"


@pytest.mark.parametrize(
    ("variables", "hosts"),
    [
        ({}, (ENTRA, "management.azure.com")),
        ({"AZURE_AUTHORITY_HOST": "https://login.chinacloudapi.cn/"},
         ("login.chinacloudapi.cn", "management.chinacloudapi.cn")),
        ({"AZURE_AUTHORITY_HOST": "Login.Chinacloudapi.cn"},
         ("login.chinacloudapi.cn", "management.chinacloudapi.cn")),
        (ARC, (ENTRA, "management.azure.com", "gbl.his.arc.azure.com",
               "agentserviceapi.guestconfiguration.azure.com")),
        ({**ARC, "AZURE_AUTHORITY_HOST": "https://login.microsoftonline.us"},
         ("login.microsoftonline.us", "management.usgovcloudapi.net", "gbl.his.arc.azure.us",
          "agentserviceapi.guestconfiguration.azure.us")),
    ],
)  # fmt: skip
def test_hosts_are_those_of_the_source_and_of_its_cloud(
    variables: dict[str, str], hosts: tuple[str, ...]
) -> None:
    environment = Environment(variables)
    assert hosts_for(detect(environment=environment), environment) == hosts


def test_connection_with_a_trusted_and_an_untrusted_certificate(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    with TlsServer(tmp_path) as server:
        trusted = Environment({"REQUESTS_CA_BUNDLE": server.certificates})
        assert probe_host("127.0.0.1", server.port, trusted) == EgressProbe("127.0.0.1")
        untrusted = probe_host("127.0.0.1", server.port, Environment({}))
        assert "its TLS certificate is not trusted" in untrusted.error
        assert not server.requests


def test_connection_through_a_proxy_that_refuses() -> None:
    with RawServer(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n") as proxy:
        environment = Environment({"HTTPS_PROXY": f"http://user:s3cret@127.0.0.1:{proxy.port}"})
        probe = probe_host(ENTRA, 443, environment)
        assert (probe.proxy, "407" in probe.error) == ("HTTPS_PROXY", True)
        assert "s3cret" not in str(probe)
        assert b"Proxy-Authorization: Basic dXNlcjpzM2NyZXQ=" in proxy.requests[0]


def test_refused_connection_and_missing_bundle() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
    assert probe_host("127.0.0.1", port, Environment({})).kind is ErrorKind.REFUSED
    missing = Environment({"REQUESTS_CA_BUNDLE": "/missing"})
    assert probe_host("127.0.0.1", port, missing).error


def test_host_that_does_not_respond_is_reported_after_a_limited_time(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs = threading.Event()
    first = threading.Event()

    def probe(host: str, *_: object) -> EgressProbe:
        if host == "slow":
            hangs.wait(30)
        first.set()
        return EgressProbe(host)

    monkeypatch.setattr(egress, "probe_host", probe)
    probes = EgressProbes(("slow", "fast"), Environment({}), clock)
    assert first.wait(10)
    clock.seconds += 60
    slow, fast = probes.results()
    hangs.set()
    assert (slow.host, slow.kind, slow.error) == (
        "slow",
        ErrorKind.TIMEOUT,
        "no connection within 3 s",
    )
    assert fast == EgressProbe("fast")


BLOCKED = (EgressProbe(ENTRA, "no connection", ErrorKind.TIMEOUT), EgressProbe("other"))


@pytest.mark.parametrize(
    ("variables", "has_token", "status"),
    [
        (ARC, False, "failure"),
        (ARC, True, "warning"),
        (WORKLOAD, False, "failure"),
        ({}, False, "warning"),
    ],
)
def test_blocked_host_is_a_failure_if_tokens_depend_on_it(
    variables: dict[str, str], has_token: bool, status: str
) -> None:
    probe = ISSUED if has_token else refused(Reason.SERVICE_FAILING, 500)
    blocked = facts(variables, probe, egress=BLOCKED)
    found = finding(run_checks(blocked), "II028")
    assert found.status == status
    assert f"cannot connect to {ENTRA}: no connection" in found.meaning
    assert found.seen == f"{ENTRA}: no connection; other: connected"
    assert cause(blocked) == "II028" or status == "warning"


def test_probes_are_optional() -> None:
    assert finding(run_checks(facts()), "II028").status == "skipped"
    connected = facts(egress=(EgressProbe(ENTRA),))
    assert finding(run_checks(connected), "II028").status == "ok"
