"""Routes, policy rules and the commands that correct them."""

from __future__ import annotations

import socket
import struct
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doctor_facts import ETH0, IMDS, ISSUED, ROUTED, TIMED_OUT, cause, facts, finding
from imds_identity._sources.firmware import ASSET_TAG, Firmware
from imds_identity.doctor._facts import policy_rules
from imds_identity.doctor._facts.facts import Network, Rejection, Route
from imds_identity.doctor._facts.policy_rules import Rule, parse_rules
from imds_identity.doctor.diagnosis import run_checks

AZURE = Firmware(ASSET_TAG, "Microsoft Corporation")
SUBNET = Route("eth0", "10.0.0.0/24")
BRIDGE = Route("docker0", "172.17.0.0/16")


def rule_message(action: int, prefix_length: int, *attributes: tuple[int, bytes]) -> bytes:
    body = struct.pack("=BBBBBBBBI", 2, prefix_length, 0, 0, 0, 0, 0, action, 0)
    for kind, value in attributes:
        body += struct.pack("=HH", 4 + len(value), kind) + value
    return struct.pack("=IHHII", 16 + len(body), 32, 2, 1, 0) + body


def test_policy_rules_that_reject_packets_are_parsed() -> None:
    lookup = rule_message(1, 0)
    blackhole = rule_message(6, 16, (1, bytes([169, 254, 0, 0])), (6, struct.pack("=I", 100)))
    prohibit = rule_message(8, 0, (6, struct.pack("=I", 32765)))
    done = struct.pack("=IHHII", 20, 3, 2, 1, 0) + bytes(4)
    assert parse_rules(lookup + blackhole + prohibit + done) == [
        Rule(100, "169.254.0.0/16", Rejection.BLACKHOLE),
        Rule(32765, "0.0.0.0/0", Rejection.PROHIBIT),
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no netlink")
def test_rule_with_an_address_instead_of_a_network_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The kernel returns the address as it was given to ``ip rule add``."""
    rule = Rule(100, f"{IMDS}/16", Rejection.BLACKHOLE)
    monkeypatch.setattr(policy_rules, "parse_rules", lambda _: [rule])
    assert policy_rules.rejecting_rule(IMDS, Rejection.BLACKHOLE) == rule
    assert policy_rules.rejecting_rule("10.0.0.1", Rejection.BLACKHOLE) is None


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no netlink")
def test_rules_are_read_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel sends a long list in parts of some kilobytes, and does not say how many."""
    kernel, netlink = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    done = struct.pack("=IHHII", 20, 3, 2, 1, 0) + bytes(4)
    for part in (rule_message(1, 0) * 2, rule_message(8, 0), done):
        kernel.send(part)
    monkeypatch.setattr(socket, "socket", lambda *_: netlink)
    with kernel:
        assert policy_rules.rejecting_rule(IMDS, Rejection.PROHIBIT) is not None


@given(st.binary(max_size=200))
def test_any_answer_of_the_kernel_is_parsed_or_refused(messages: bytes) -> None:
    try:
        parse_rules(messages)
    except (ValueError, struct.error):  # the errors that rejecting_rule handles
        return


def test_remedy_deletes_the_policy_rule_that_drops_requests() -> None:
    rejected = Network(
        IMDS, problem="text", rejection=Rejection.BLACKHOLE, rejecting_rule="169.254.0.0/16",
        rule_priority=100, has_ipv4=True,
    )  # fmt: skip
    diagnosis = run_checks(facts(probe=TIMED_OUT, network=rejected))
    assert "the policy rule 100 to 169.254.0.0/16 blackhole drops" in diagnosis.headline
    remedy = "sudo ip rule del pref 100 to 169.254.0.0/16 blackhole"
    assert finding(diagnosis, "II021").remedy == remedy


@pytest.mark.parametrize(
    ("routes", "firmware", "remedy"),
    [
        ((BRIDGE, SUBNET), AZURE, f"sudo ip route replace {IMDS}/32 via 10.0.0.1 dev eth0"),
        ((SUBNET,), Firmware(), f"sudo ip route replace {IMDS}/32 via DEFAULT_GATEWAY dev eth0"),
        ((BRIDGE,), AZURE,
         f"sudo ip route replace {IMDS}/32 via DEFAULT_GATEWAY dev PRIMARY_INTERFACE"),
        ((), AZURE, "sudo ip link set PRIMARY_INTERFACE up; ip -brief address"),
        ((SUBNET, ETH0), AZURE, f"ip rule; ip route get {IMDS}"),
    ],
)  # fmt: skip
def test_route_that_is_missing(routes: tuple[Route, ...], firmware: Firmware, remedy: str) -> None:
    network = Network(IMDS, problem="Network is unreachable", routes=routes, has_ipv4=True)
    broken = facts(probe=TIMED_OUT, network=network, firmware=firmware)
    assert cause(broken) == "II021"
    assert finding(run_checks(broken), "II021").remedy == remedy


def test_host_route_is_blamed_only_if_packets_are_lost() -> None:
    routes = (ETH0, Route("eth1", f"{IMDS}/32"))
    network = ROUTED._replace(routes=routes)
    assert cause(facts(probe=TIMED_OUT, network=network)) == "II022"
    works = ISSUED._replace(claims=None)
    assert finding(run_checks(facts(probe=works, network=network)), "II022").status == "ok"
