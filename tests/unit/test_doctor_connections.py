"""What exactly went wrong with a connection or a request, and not one sentence for all."""

from __future__ import annotations

import errno
import os
import socket
import sys
from typing import TYPE_CHECKING, Any

import pytest

from doctor_facts import (
    IMDS,
    ISSUED,
    METADATA,
    ROUTED,
    TOKEN,
    WORKLOAD,
    cause,
    facts,
    finding,
    refused,
)
from doctor_rewording import WORDINGS, reword
from imds_identity._core.failure import Reason, Unavailable
from imds_identity._core.identity import Identity
from imds_identity._http.connection import kind_of
from imds_identity._http.exchange import ErrorKind, ReadFailed, TransportError
from imds_identity._http.messages import Request, Response
from imds_identity._http.transport import direct_sender
from imds_identity._platform.environment import Environment
from imds_identity._sources.registry import detect
from imds_identity.doctor._facts import service_probe
from imds_identity.doctor._facts.facts import Hosting, HostKind, ServiceProbe, Tls
from imds_identity.doctor._facts.network import gather_network, proxy_for
from imds_identity.doctor._facts.tls import gather_tls
from imds_identity.doctor.diagnosis import run_checks
from support import FakeClock, RawServer, RealTimeClock, TlsServer

if TYPE_CHECKING:
    from pathlib import Path

PROXIED = {**WORKLOAD, "HTTPS_PROXY": "http://user:s3cret@proxy.example:3128"}


@pytest.fixture(autouse=True, params=WORDINGS)
def _wording(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    reword(monkeypatch, request.param)


def failed(kind: ErrorKind, *, connected: bool = True, metadata: bool = True) -> ServiceProbe:
    record = TOKEN._replace(status=0, error="text", kind=kind, connect_failed=not connected)
    failure = Unavailable("text", reason=Reason.NO_RESPONSE if connected else Reason.UNREACHABLE)
    return ServiceProbe(
        0.001 if connected else None, "" if connected else "text", kind,
        requests=(METADATA, record) if metadata and connected else (record,), failure=failure,
    )  # fmt: skip


@pytest.mark.parametrize("metadata", [True, False])
@pytest.mark.parametrize(
    ("kind", "headline"),
    [
        (ErrorKind.RESET, "the connection is reset before a response"),
        (ErrorKind.INCOMPLETE, "the response begins but is not complete in time"),
        (ErrorKind.TIMEOUT, "the server accepts the connection but does not respond"),
        (ErrorKind.OTHER, "the server accepts the connection, but its response is not HTTP"),
    ],
)
def test_request_without_a_response(kind: ErrorKind, headline: str, metadata: bool) -> None:
    broken = facts(probe=failed(kind, metadata=metadata), network=ROUTED)
    assert cause(broken) == "II026"
    assert headline in run_checks(broken).headline


@pytest.mark.parametrize(
    ("variables", "kind", "headline"),
    [
        ({}, ErrorKind.REFUSED, f"no process listens at {IMDS}, or a firewall refuses"),
        ({}, ErrorKind.TIMEOUT, f"packets to {IMDS} are lost"),
        ({}, ErrorKind.FORBIDDEN, "the system forbids this process to connect"),
        (WORKLOAD, ErrorKind.NAME, "the name login.microsoftonline.com does not resolve"),
        (WORKLOAD, ErrorKind.NAME_TIMEOUT, "the DNS server did not resolve the name login"),
        (WORKLOAD, ErrorKind.FORBIDDEN, "the system forbids this process to connect"),
        (WORKLOAD, ErrorKind.REFUSED, "login.microsoftonline.com refuses the connection"),
        (WORKLOAD, ErrorKind.TIMEOUT, "packets to login.microsoftonline.com are lost"),
        (WORKLOAD, ErrorKind.OTHER, "login.microsoftonline.com cannot be reached"),
    ],
)
def test_connection_that_fails(variables: dict[str, str], kind: ErrorKind, headline: str) -> None:
    network: dict[str, Any] = {} if variables else {"network": ROUTED}
    broken = facts(variables, failed(kind, connected=False), **network)
    assert finding(run_checks(broken), "II023").status == "failure"
    assert headline in finding(run_checks(broken), "II023").meaning


@pytest.mark.parametrize("kind", [ErrorKind.REFUSED, ErrorKind.TIMEOUT, ErrorKind.NAME])
def test_variable_that_leads_nowhere_is_named(kind: ErrorKind) -> None:
    variables = {"AZURE_POD_IDENTITY_AUTHORITY_HOST": "http://imds.example:99"}
    broken = facts(variables, failed(kind, connected=False))
    assert "AZURE_POD_IDENTITY_AUTHORITY_HOST names imds.example:99" in run_checks(broken).headline
    remedy = finding(run_checks(broken), "II023").remedy
    assert remedy == "unset AZURE_POD_IDENTITY_AUTHORITY_HOST"


def test_firewall_of_a_pod_is_not_looked_for_on_a_machine() -> None:
    pod = Hosting(HostKind.KUBERNETES)
    broken = facts(probe=failed(ErrorKind.TIMEOUT, connected=False), hosting=pod, network=ROUTED)
    assert "kubectl" in finding(run_checks(broken), "II023").remedy


@pytest.mark.parametrize(
    ("kind", "connected", "headline"),
    [
        (ErrorKind.PROXY_AUTHENTICATION, True, "requires authentication (HTTP 407)"),
        (ErrorKind.PROXY, True, "cannot or may not connect to login.microsoftonline.com"),
        (ErrorKind.REFUSED, False, "proxy.example:3128 in HTTPS_PROXY cannot be reached"),
        (ErrorKind.NAME, False, "proxy.example:3128 in HTTPS_PROXY cannot be reached"),
    ],
)
def test_proxy_that_fails(kind: ErrorKind, connected: bool, headline: str) -> None:
    broken = facts(PROXIED, failed(kind, connected=connected, metadata=False))
    diagnosis = run_checks(broken._replace(workload=broken.workload._replace(expiry=2e9)))
    assert headline in diagnosis.headline
    assert diagnosis.cause is not None
    assert diagnosis.cause.id == "II024"
    assert "s3cret" not in str(diagnosis.document())


def test_certificate_that_is_not_trusted_has_an_issuer() -> None:
    failure = Unavailable("text", reason=Reason.TLS)
    probe = ServiceProbe(requests=(TOKEN._replace(status=0, error="text"),), failure=failure)
    broken = facts(WORKLOAD, probe, tls=Tls("CN=Inspector"))
    broken = broken._replace(workload=broken.workload._replace(expiry=2e9))
    assert cause(broken) == "II027"
    assert "issued by CN=Inspector, is not trusted" in run_checks(broken).headline
    bundle = broken._replace(tls=Tls(bundle_problem="No such file"))
    assert finding(run_checks(bundle), "II027").remedy == "unset REQUESTS_CA_BUNDLE"


@pytest.mark.parametrize("status", [502, 504])
def test_gateway_in_front_of_the_service(status: int) -> None:
    probe = refused(Reason.SERVICE_FAILING, status)
    assert cause(facts(probe=probe)) == "II025"
    own = probe.requests[-1]._replace(headers={"server": "IMDS/150.870.65.1"})
    assert cause(facts(probe=probe._replace(requests=(METADATA, own)))) == "II042"


def test_slow_service_that_issues_a_token_is_a_warning() -> None:
    for slow in (METADATA, TOKEN):
        requests = tuple(r._replace(seconds=1.4) if r is slow else r for r in (METADATA, TOKEN))
        diagnosis = run_checks(facts(probe=ISSUED._replace(requests=requests)))
        assert diagnosis.status == "warning"
        assert "the service works, but it is slow: a response took 1.4 s" in diagnosis.headline
    fast = tuple(r._replace(seconds=0.9) for r in (METADATA, TOKEN))
    assert run_checks(facts(probe=ISSUED._replace(requests=fast))).status == "ok"


def test_throttled_metadata_is_not_a_failure_if_a_token_was_issued() -> None:
    throttled = METADATA._replace(status=429)
    diagnosis = run_checks(facts(probe=ISSUED._replace(requests=(throttled, TOKEN))))
    assert (diagnosis.status, finding(diagnosis, "II041").status) == ("ok", "ok")
    absent = refused(Reason.IDENTITY_NOT_FOUND)
    broken = facts(probe=absent._replace(requests=(throttled, *absent.requests[1:])))
    assert cause(broken) == "II050"


# Gathering.


def test_slow_metadata_leaves_time_for_the_token_request() -> None:
    clock, timeouts = FakeClock(), []

    def send(request: Request) -> Response:
        timeouts.append(request.seconds)
        clock.sleep(request.seconds)
        raise ReadFailed("text", ErrorKind.TIMEOUT)

    source = detect("imds", environment=Environment({}))
    sender = service_probe.RecordingSender(send, clock, clock.now() + service_probe.TOTAL_SECONDS)
    probe = service_probe._with_metadata(ServiceProbe(), source, sender)
    service_probe._with_token(probe, source, Identity(), "r", sender)
    assert timeouts == [1.0, 2.5]
    assert [record.kind for record in sender.records] == [ErrorKind.TIMEOUT] * 2


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EPERM, ErrorKind.FORBIDDEN),
        (errno.EAFNOSUPPORT, ErrorKind.FORBIDDEN),
        (errno.ENETUNREACH, ErrorKind.NO_ROUTE),
        (errno.ECONNREFUSED, ErrorKind.REFUSED),
        (errno.ECONNRESET, ErrorKind.RESET),
        (errno.ETIMEDOUT, ErrorKind.TIMEOUT),
        (errno.EIO, ErrorKind.OTHER),
    ],
)
def test_kind_of_a_system_error_depends_on_its_number(number: int, kind: ErrorKind) -> None:
    assert kind_of(OSError(number, "texte")) is kind


def kind_of_request(url: str, *, seconds: float = 5.0, over_internet: bool = False) -> ErrorKind:
    request = Request(url, {}, seconds=seconds, over_internet=over_internet)
    with direct_sender(RealTimeClock()) as send, pytest.raises(TransportError) as raised:
        send(request)
    return raised.value.kind


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_kinds_of_real_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n"
    assert kind_of_request(f"http://127.0.0.1:{free_port()}") is ErrorKind.REFUSED
    with RawServer() as server:
        assert kind_of_request(server.url) is ErrorKind.RESET
    with RawServer(hold=True) as server:
        assert kind_of_request(server.url, seconds=0.2) is ErrorKind.TIMEOUT
    with RawServer(head, hold=True) as server:
        assert kind_of_request(server.url, seconds=0.2) is ErrorKind.INCOMPLETE
    with RawServer(head) as server:
        assert kind_of_request(server.url) is ErrorKind.INCOMPLETE
    with RawServer(b"HTTP/1.1 200 OK\r\nX: y", hold=True) as server:
        assert kind_of_request(server.url, seconds=0.2) is ErrorKind.INCOMPLETE
    with RawServer(b"SSH-2.0-x\r\n") as server:
        assert kind_of_request(server.url) is ErrorKind.OTHER
    for status, kind in ((407, ErrorKind.PROXY_AUTHENTICATION), (502, ErrorKind.PROXY)):
        with RawServer(b"HTTP/1.1 %d X\r\n\r\n" % status) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", proxy.url)
            monkeypatch.setenv("https_proxy", proxy.url)
            assert kind_of_request("https://login.example/", over_internet=True) is kind


def test_socket_that_the_system_forbids(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(*_: object, **__: object) -> socket.socket:
        raise OSError(errno.EAFNOSUPPORT, "texte")

    monkeypatch.setattr("socket.socket", forbid)
    assert gather_network(IMDS, 80).problem == ""
    source = detect("imds", environment=Environment({}))
    probe = service_probe._try_connect(source, RealTimeClock())
    assert probe.connect_kind is ErrorKind.FORBIDDEN
    diagnosis = run_checks(facts(probe=probe, network=gather_network(IMDS, 80)))
    assert "the system forbids this process to connect" in diagnosis.headline


def test_issuer_of_an_untrusted_certificate_is_read(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    untrusted = Unavailable("text", reason=Reason.TLS)
    with TlsServer(tmp_path) as server:
        variables = {**WORKLOAD, "AZURE_AUTHORITY_HOST": server.url}
        source = detect(environment=Environment(variables))
        tls = gather_tls(source, Environment(variables), untrusted)
        assert "CN=" in tls.issuer
    missing = Environment({**variables, "REQUESTS_CA_BUNDLE": str(tmp_path / "missing")})
    assert gather_tls(
        detect(environment=missing), missing, untrusted
    ).bundle_problem == os.strerror(2)
    unreachable = {**variables, "HTTPS_PROXY": f"127.0.0.1:{free_port()}"}
    source = detect(environment=Environment(unreachable))
    assert gather_tls(source, Environment(unreachable), untrusted).issuer == ""


@pytest.mark.parametrize(
    ("value", "server"),
    [
        ("http://user:p@ss@proxy:3128/", "proxy:3128"),
        ("proxy:3128", "proxy:3128"),
        ("user:pass@proxy", "proxy"),
    ],
)
def test_proxy_is_shown_without_its_password(value: str, server: str) -> None:
    environment = Environment({"HTTPS_PROXY": value})
    proxy = proxy_for(environment, "https://login.example/x")
    assert proxy is not None
    assert (proxy.variable, proxy.server) == ("HTTPS_PROXY", server)


@pytest.mark.parametrize("endpoint", ["", "169.254.169.254", "ftp://169.254.169.254"])
def test_endpoint_without_a_usable_scheme_has_no_proxy(endpoint: str) -> None:
    assert proxy_for(Environment({"HTTP_PROXY": "http://p:1"}), endpoint) is None


@pytest.mark.skipif(sys.platform == "win32", reason="names have no case on Windows")
def test_no_proxy_in_lower_case_wins() -> None:
    variables = {"http_proxy": "http://p:1", "NO_PROXY": IMDS, "no_proxy": "other"}
    found = finding(run_checks(facts(variables, ISSUED)), "II024")
    assert (found.status, found.remedy) == ("warning", f"export no_proxy={IMDS},$no_proxy")
