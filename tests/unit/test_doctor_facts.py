"""How facts are gathered: tables, files and certificates, without a network."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_identity._core.claims import claims_in
from imds_identity._http.exchange import ConnectFailed, Request
from imds_identity._platform.environment import Environment
from imds_identity.doctor._facts.agent import certificate_ends, not_after
from imds_identity.doctor._facts.contact import MOST_REQUESTS, SECONDS, Witness
from imds_identity.doctor._facts.facts import Route
from imds_identity.doctor._facts.network import best, linux_routes, windows_routes
from imds_identity.doctor._facts.shared import directory_problem
from imds_identity.doctor._facts.system import container_in, workload_in

if TYPE_CHECKING:
    from pathlib import Path

    from support import FakeClock, ResponseFactory

IMDS = "169.254.169.254"
HEAD = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"
# A cluster's network driver has 169.254.0.0/16 for itself.
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


def in_the_machines_order(address: str) -> str:
    number = int.from_bytes(bytes(map(int, address.split("."))), sys.byteorder)
    return f"{number:08X}"


def line(interface: str, network: str, gateway: str, mask: str, flags: int, metric: int) -> str:
    words = map(in_the_machines_order, (network, gateway))
    destination, hop = words
    return (
        f"{interface}\t{destination}\t{hop}\t{flags:04X}\t0\t0\t{metric}\t"
        f"{in_the_machines_order(mask)}\t0\t0\t0\n"
    )


def test_the_kernels_table_of_routes_is_read() -> None:
    table = (
        HEAD
        + line("eth0", "0.0.0.0", "10.0.0.1", "0.0.0.0", 3, 100)
        + line("eth1", "169.254.0.0", "0.0.0.0", "255.255.0.0", 1, 1002)
        + line("down", "169.254.169.254", "10.0.0.1", "255.255.255.255", 2, 0)
        + line("none", "169.254.169.0", "0.0.0.0", "255.255.255.0", 0x201, 0)
    )
    routes = linux_routes(table)
    assert routes == (
        Route("eth0", "0.0.0.0/0", "10.0.0.1", 100),
        Route("eth1", "169.254.0.0/16", "0.0.0.0", 1002),
    )
    assert best(routes, IMDS) == routes[1]
    assert best(routes, "8.8.8.8") == routes[0]
    assert best((), IMDS) is None


def test_of_equal_routes_the_lower_metric_is_taken() -> None:
    routes = (Route("a", "0.0.0.0/0", metric=200), Route("b", "0.0.0.0/0", metric=100))
    assert best(routes, IMDS) == routes[1]


def test_windows_routes_of_a_failover_cluster_are_read_in_any_language() -> None:
    routes = windows_routes(WINDOWS)
    assert routes[0] == Route("10.0.1.10", "0.0.0.0/0", "10.0.1.1", 10)
    chosen = best(routes, IMDS)
    assert chosen is not None
    assert chosen.interface == "169.254.1.156"


@given(st.text())
def test_any_text_is_a_table_without_routes_of_windows(text: str) -> None:
    windows_routes(text)


@pytest.mark.parametrize("years", [1, 40])
def test_a_certificates_end_is_read(years: int, tmp_path: Path) -> None:
    pem, ends = _certificate(years)
    (tmp_path / "myCert").write_bytes(pem)
    (tmp_path / "other").write_text("no certificate")
    (tmp_path / "folder").mkdir()
    assert certificate_ends(str(tmp_path)) == ends
    assert certificate_ends(str(tmp_path / "nowhere")) is None


def _certificate(years: int) -> tuple[bytes, float]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    begins = dt.datetime(2025, 1, 1, tzinfo=dt.timezone.utc)
    ends = begins.replace(year=2025 + years)  # from 2050 on a date is written in another way
    made = (
        x509.CertificateBuilder(x509.Name([]), x509.Name([]), key.public_key(), 1, begins, ends)
    ).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM), ends.timestamp()


@given(st.binary(max_size=200))
def test_what_is_no_certificate_is_refused_and_nothing_else(content: bytes) -> None:
    with contextlib.suppress(ValueError, IndexError):
        not_after(content)


@pytest.mark.parametrize("mark", [".dockerenv", "run/.containerenv", "cgroup", "variable"])
def test_a_container_is_known_by_what_it_leaves(mark: str, tmp_path: Path) -> None:
    assert container_in(str(tmp_path), Environment({})) == ""
    variables = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"} if mark == "variable" else {}
    if mark == "cgroup":
        (tmp_path / "proc" / "1").mkdir(parents=True)
        (tmp_path / "proc" / "1" / "cgroup").write_text("0::/kubepods/burstable/pod1")
    elif not variables:
        (tmp_path / mark).parent.mkdir(exist_ok=True)
        (tmp_path / mark).touch()
    assert container_in(str(tmp_path), Environment(variables)) != ""


def test_a_workloads_file_is_read_without_keeping_its_token(tmp_path: Path) -> None:
    file = tmp_path / "token"
    assert workload_in(str(file)).problem == "No such file or directory"
    file.write_text("")
    assert workload_in(str(file)).problem == "it is empty"
    file.write_text("no.token.here")
    assert workload_in(str(file)).problem == "it holds no token"
    file.write_text("e30.eyJleHAiOiAxNzUwMDAwMDAwLCAic3ViIjogIm1lIn0.s3cret")
    workload = workload_in(str(file))
    assert (workload.expires, workload.subject) == (1_750_000_000, "me")
    assert "s3cret" not in str(workload)


@pytest.mark.skipif(sys.platform == "win32", reason="modes and owners are Unix's")
def test_a_directory_is_judged_and_not_made(tmp_path: Path) -> None:
    assert directory_problem("") != ""
    assert directory_problem(str(tmp_path / "later")) == ""
    file = tmp_path / "file"
    file.touch()
    assert directory_problem(str(file)) == "it is no directory"
    directory = tmp_path / "mine"
    directory.mkdir(mode=0o700)
    assert directory_problem(str(directory)) == ""
    directory.chmod(0o750)
    assert "its mode is 750" in directory_problem(str(directory))
    assert sorted(os.listdir(tmp_path)) == ["file", "mine"]


def test_no_more_than_eight_requests_are_sent(clock: FakeClock, responses: ResponseFactory) -> None:
    sent: list[Request] = []

    def send(request: Request) -> object:
        sent.append(request)
        return responses.error(400, set_cookie="s3cret")

    witness = Witness(send, clock, clock.now() + SECONDS)  # type: ignore[arg-type]
    for _ in range(MOST_REQUESTS):
        witness(Request("http://x/token?resource=r", {}))
    with pytest.raises(ConnectFailed, match="no more than 8 times"):
        witness(Request("http://x/token", {}))
    assert len(sent) == len(witness.seen) == MOST_REQUESTS
    assert "s3cret" not in str(witness.seen)


def test_what_is_left_of_the_time_bounds_each_request(
    clock: FakeClock, responses: ResponseFactory
) -> None:
    bounds: list[float] = []

    def send(request: Request) -> object:
        bounds.append(request.seconds)
        clock.seconds += 1.5
        return responses.error(500)

    witness = Witness(send, clock, clock.now() + SECONDS)  # type: ignore[arg-type]
    for _ in range(3):
        witness(Request("http://x/token", {}))
    with pytest.raises(ConnectFailed, match="asks no longer than"):
        witness(Request("http://x/token", {}))
    assert bounds == pytest.approx([SECONDS, SECONDS - 1.5, SECONDS - 3.0])


@given(st.text(max_size=200))
def test_what_is_no_token_has_no_claims(text: str) -> None:
    assert isinstance(claims_in(text), dict)
