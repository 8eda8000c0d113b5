"""Gathering of facts from tables, files and certificates, without a network."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_identity._core.claims import claims_in
from imds_identity._http.exchange import ConnectFailed
from imds_identity._http.messages import Request, Response
from imds_identity._platform.environment import Environment
from imds_identity._shared_cache.location import shared_cache_for
from imds_identity._sources.azure_vm import ImdsSource
from imds_identity.doctor._facts import shared_cache as shared_cache_facts
from imds_identity.doctor._facts.agent import certificate_expiry
from imds_identity.doctor._facts.facts import Route
from imds_identity.doctor._facts.network import (
    best_route,
    parse_linux_routes,
    parse_windows_routes,
    run_route_print,
)
from imds_identity.doctor._facts.service_probe import (
    MAX_REQUESTS,
    TOTAL_SECONDS,
    RecordingSender,
)
from imds_identity.doctor._facts.shared_cache import directory_problem, gather_cache
from imds_identity.doctor._facts.system import detect_container, read_workload_token

if TYPE_CHECKING:
    from pathlib import Path

    from support import FakeClock, ResponseFactory

IMDS = "169.254.169.254"
HEAD = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"
# The network driver of a failover cluster adds a route for 169.254.0.0/16.
WINDOWS = """
===========================================================================
Interface List
 11...00 0d 3a 00 00 04 ......Microsoft Hyper-V Network Adapter
===========================================================================
IPv4 Route Table
===========================================================================
Active Routes:
Network Destination        Netmask          Gateway       Interface  Metric
          0.0.0.0          0.0.0.0         10.0.1.1        10.0.1.10     10
        127.0.0.0        255.0.0.0         On-link         127.0.0.1    331
      169.254.0.0      255.255.0.0    Auf Verbindung    169.254.1.156    271
      169.254.0.0      255.255.0.0         On-link     169.254.1.156    271
===========================================================================
Persistent Routes:
  None
"""


def kernel_address(address: str) -> str:
    """Return an address as the kernel prints it: hexadecimal in native byte order."""
    number = int.from_bytes(bytes(map(int, address.split("."))), sys.byteorder)
    return f"{number:08X}"


def kernel_route(
    interface: str, network: str, gateway: str, mask: str, flags: int, metric: int
) -> str:
    destination, hop, netmask = map(kernel_address, (network, gateway, mask))
    return f"{interface}\t{destination}\t{hop}\t{flags:04X}\t0\t0\t{metric}\t{netmask}\t0\t0\t0\n"


def test_kernels_routing_table_is_parsed() -> None:
    table = (
        HEAD
        + kernel_route("eth0", "0.0.0.0", "10.0.0.1", "0.0.0.0", 3, 100)
        + kernel_route("eth1", "169.254.0.0", "0.0.0.0", "255.255.0.0", 1, 1002)
        + kernel_route("down", "169.254.169.254", "10.0.0.1", "255.255.255.255", 2, 0)
        + kernel_route("*", "169.254.169.0", "0.0.0.0", "255.255.255.0", 0x201, 0)
    )
    routes = parse_linux_routes(table)
    assert routes == (
        Route("eth0", "0.0.0.0/0", "10.0.0.1", 100),
        Route("eth1", "169.254.0.0/16", "0.0.0.0", 1002),
        Route("*", "169.254.169.0/24"),  # packets are rejected
    )
    assert best_route(routes, IMDS) == routes[2]
    assert best_route(routes[:2], IMDS) == routes[1]
    assert best_route(routes, "8.8.8.8") == routes[0]
    assert best_route((), IMDS) is None


def test_lower_metric_decides_between_equal_routes() -> None:
    routes = (Route("a", "0.0.0.0/0", metric=200), Route("b", "0.0.0.0/0", metric=100))
    assert best_route(routes, IMDS) == routes[1]


def test_windows_routes_of_a_failover_cluster_are_parsed_in_any_language() -> None:
    routes = parse_windows_routes(WINDOWS)
    assert routes[0] == Route("10.0.1.10", "0.0.0.0/0", "10.0.1.1", 10)
    chosen = best_route(routes, IMDS)
    assert chosen is not None
    assert chosen.interface == "169.254.1.156"


def test_slow_route_print_means_that_the_routes_are_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def time_out(command: list[str], **options: object) -> None:
        raise subprocess.TimeoutExpired(command, 1.0)

    monkeypatch.setattr(subprocess, "run", time_out)
    with pytest.raises(TimeoutError):  # an OSError, for which gather_network has no routes
        run_route_print()


@pytest.mark.skipif(sys.platform == "win32", reason="replaces the program by a shell script")
def test_route_print_may_use_any_code_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's default encoding may be another one, and -X warn_default_encoding warns about it."""

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        assert "encoding" in options
        return original(["printf", r"0.0.0.0 0.0.0.0 Verbindung\204 10.0.1.10 10\n"], **options)

    original = subprocess.run
    monkeypatch.setattr(subprocess, "run", run)
    assert parse_windows_routes(run_route_print()) == (Route("10.0.1.10", "0.0.0.0/0", metric=10),)


@given(st.text())
def test_any_output_of_route_print_is_parsed_without_an_exception(text: str) -> None:
    parse_windows_routes(text)


@pytest.mark.parametrize("years", [1, 40])
def test_expiry_of_a_certificate_is_read(years: int, tmp_path: Path) -> None:
    pem, expiry = _certificate(years)
    (tmp_path / "myCert").write_bytes(pem)
    (tmp_path / "other").write_text("not a certificate")
    (tmp_path / "folder").mkdir()
    assert certificate_expiry(str(tmp_path)) == (expiry, "")


def test_unreadable_certificate_has_an_unknown_expiry(tmp_path: Path) -> None:
    expiry, problem = certificate_expiry(str(tmp_path / "nowhere"))
    assert expiry is None
    assert "cannot read" in problem
    pytest.importorskip("cryptography")
    (tmp_path / "myCert").write_bytes(
        b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"
    )
    expiry, problem = certificate_expiry(str(tmp_path))
    assert expiry is None
    assert "no certificate in PEM format" in problem


def test_expiry_is_unknown_if_cryptography_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "myCert").write_text("a certificate")
    monkeypatch.setitem(sys.modules, "cryptography", None)
    expiry, problem = certificate_expiry(str(tmp_path))
    assert expiry is None
    assert "cryptography is not installed" in problem


def _certificate(years: int) -> tuple[bytes, float]:
    pytest.importorskip("cryptography")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    start = dt.datetime(2025, 1, 1, tzinfo=dt.timezone.utc)
    expiry = start.replace(year=2025 + years)  # X.509 encodes dates from 2050 on differently
    certificate = x509.CertificateBuilder(
        x509.Name([]), x509.Name([]), key.public_key(), 1, start, expiry
    ).sign(key, hashes.SHA256())
    return certificate.public_bytes(serialization.Encoding.PEM), expiry.timestamp()


@pytest.mark.parametrize("sign", [".dockerenv", "run/.containerenv", "cgroup", "variable"])
def test_container_is_detected(sign: str, tmp_path: Path) -> None:
    assert detect_container(str(tmp_path), Environment({})) == ""
    variables = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"} if sign == "variable" else {}
    if sign == "cgroup":
        (tmp_path / "proc" / "1").mkdir(parents=True)
        (tmp_path / "proc" / "1" / "cgroup").write_text("0::/kubepods/burstable/pod1")
    elif not variables:
        (tmp_path / sign).parent.mkdir(exist_ok=True)
        (tmp_path / sign).touch()
    assert detect_container(str(tmp_path), Environment(variables)) != ""


def test_workload_token_file_is_read_without_keeping_the_token(tmp_path: Path) -> None:
    file = tmp_path / "token"
    assert read_workload_token(str(file)).problem == "No such file or directory"
    file.write_text("")
    assert read_workload_token(str(file)).problem == "the file is empty"
    file.write_text("no.token.here")
    assert read_workload_token(str(file)).problem == "the file contains no token"
    file.write_text("e30.eyJleHAiOiAxNzUwMDAwMDAwLCAic3ViIjogIm1lIn0.s3cret")
    workload = read_workload_token(str(file))
    assert (workload.expiry, workload.subject) == (1_750_000_000, "me")
    assert "s3cret" not in str(workload)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither modes nor owner IDs")
def test_cache_directory_is_checked_but_not_created(tmp_path: Path) -> None:
    assert directory_problem("") != ""
    assert directory_problem(str(tmp_path / "later")) == ""
    file = tmp_path / "file"
    file.touch()
    assert directory_problem(str(file)) == "it is not a directory"
    directory = tmp_path / "mine"
    directory.mkdir(mode=0o700)
    assert directory_problem(str(directory)) == ""
    directory.chmod(0o750)
    assert "(mode 750)" in directory_problem(str(directory))
    assert sorted(os.listdir(tmp_path)) == ["file", "mine"]


def test_no_more_than_eight_requests_are_sent(clock: FakeClock, responses: ResponseFactory) -> None:
    sent: list[Request] = []

    def send(request: Request) -> Response:
        sent.append(request)
        return responses.error(400, set_cookie="s3cret")

    sender = RecordingSender(send, clock, clock.now() + TOTAL_SECONDS)
    for _ in range(MAX_REQUESTS):
        sender(Request("http://x/token?resource=r", {}))
    with pytest.raises(ConnectFailed, match="at most 8 requests"):
        sender(Request("http://x/token", {}))
    assert len(sent) == len(sender.records) == MAX_REQUESTS
    assert "s3cret" not in str(sender.records)


def test_remaining_time_limits_each_request(clock: FakeClock, responses: ResponseFactory) -> None:
    timeouts: list[float] = []

    def send(request: Request) -> Response:
        timeouts.append(request.seconds)
        clock.seconds += 1.5
        return responses.error(500)

    sender = RecordingSender(send, clock, clock.now() + TOTAL_SECONDS)
    for _ in range(3):
        sender(Request("http://x/token", {}))
    with pytest.raises(ConnectFailed, match=r"no requests after 3\.5 s"):
        sender(Request("http://x/token", {}))
    assert timeouts == pytest.approx([TOTAL_SECONDS, TOTAL_SECONDS - 1.5, TOTAL_SECONDS - 3.0])


@given(st.text(max_size=200))
def test_any_text_can_be_parsed_as_a_token(text: str) -> None:
    assert isinstance(claims_in(text), dict)


def test_shared_directory_that_hangs_is_reported_after_a_limited_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, path = threading.Event(), str(tmp_path / "on-nfs")
    monkeypatch.setattr(shared_cache_facts, "directory_problem", lambda _: hangs.wait(30))
    shared_cache = shared_cache_for(path)
    assert shared_cache is not None
    assert shared_cache.directory._watchdog is not None
    monkeypatch.setattr(shared_cache.directory._watchdog, "_seconds", 0.1)
    state = gather_cache(path, ImdsSource("http://127.0.0.1:9/token"), Environment())
    hangs.set()
    assert state.problem == "it does not respond: its file server may be down"
