"""Machines that take namespaces of their own: networks, mounts and users, all of them broken."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parent / "doctor_machines.py"
LOOPBACK = "ip link set lo up"
INTERFACE = """
ip link add {name} type veth peer name far-{name}
ip link set {name} up
ip link set far-{name} up
ip address add {address}/24 dev {name}
"""
ETH0 = LOOPBACK + INTERFACE.format(name="eth0", address="10.0.0.4")
# A neighbour that answers to nothing: what is sent there is lost.
LOST = """
ip neighbour add 10.0.0.1 lladdr 02:00:00:00:00:01 dev eth0 nud permanent
ip route add default via 10.0.0.1 dev eth0
"""
AT_THE_ADDRESS = LOOPBACK + "\nip address add 169.254.169.254/32 dev lo\n"
AGENT = """
mount -t tmpfs none /opt
mkdir -p /opt/azcmagent/bin
touch /opt/azcmagent/bin/himds
"""
TOKENS = """
mount -t tmpfs none /var/opt
mkdir -p /var/opt/azcmagent/tokens
"""


@cache
def refusal() -> str:
    """Why there can be no such worlds here; empty if there can."""
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("unshare"):
        return "only root on Linux makes networks"
    made = subprocess.run(
        ["unshare", "-n", "-m", "sh", "-ec", ETH0], capture_output=True, text=True, check=False
    )
    return made.stderr.strip() if made.returncode else ""


def diagnosed(prepare: str, world: str = "alone") -> dict[str, Any]:
    """What the doctor says, as JSON, in a world that shell commands prepare."""
    document: dict[str, Any] = json.loads(said_in(prepare, world))
    assert document["requests"] <= 8
    return document


def said_in(prepare: str, world: str, *arguments: str) -> str:
    """What `doctor_machines.py` prints in a world that shell commands prepare."""
    if refusal():
        pytest.skip(refusal())
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name in ("PATH", "PYTHONPATH", "COVERAGE_PROCESS_START", "HOME")
    }
    done = subprocess.run(
        ["unshare", "-n", "-m", "sh", "-ec", f'{prepare}\nexec "$@"', "sh",
         sys.executable, str(SCRIPT), world, *arguments],
        capture_output=True, text=True, check=False, timeout=60,
        env={**inherited, "IMDS_IDENTITY_CACHE": "off"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


NETWORKS = {
    "no route": (ETH0, "II021", "there is no route to 169.254.169.254: Network is unreachable"),
    "a rule forbids it": (
        ETH0 + LOST + "ip rule add to 169.254.169.254 prohibit",
        "II021",
        "there is no route to 169.254.169.254: Permission denied",
    ),
    "IPv6 only": (
        LOOPBACK
        + INTERFACE.format(name="eth0", address="10.0.0.4")
        + "ip address flush dev eth0\nip -6 address add 2001:db8::4/64 dev eth0 nodad",
        "II020",
        "has no IPv4, and 169.254.169.254 has no other address: IPv6 alone does not do",
    ),
    "black hole": (ETH0 + LOST, "II023", "packets to 169.254.169.254 get lost"),
    "nobody listens": (AT_THE_ADDRESS, "II023", "nobody listens at 169.254.169.254"),
    "second interface": (
        ETH0
        + LOST
        + INTERFACE.format(name="eth1", address="192.168.7.4")
        + "ip neighbour add 169.254.169.254 lladdr 02:00:00:00:00:01 dev eth1 nud permanent\n"
        + "ip route add 169.254.0.0/16 dev eth1",
        "II022",
        "the route 169.254.0.0/16 sends 169.254.169.254 by eth1 and not by the primary interface",
    ),
    "VPN": (
        ETH0
        + LOST
        + INTERFACE.format(name="wg0", address="10.9.0.4")
        + "ip neighbour add 10.9.0.1 lladdr 02:00:00:00:00:01 dev wg0 nud permanent\n"
        + "ip route add 128.0.0.0/1 via 10.9.0.1 dev wg0",
        "II022",
        "the route to 169.254.169.254 leads into a VPN (wg0)",
    ),
}


@pytest.mark.parametrize("broken", NETWORKS)
def test_a_network_that_does_not_lead_there(broken: str) -> None:
    prepare, cause, said = NETWORKS[broken]
    document = diagnosed(prepare)
    assert (document["cause"], document["requests"]) == (cause, 0)
    assert said in document["headline"]


def test_a_service_at_its_own_address_is_healthy() -> None:
    document = diagnosed(AT_THE_ADDRESS, "vm")
    assert (document["status"], document["cause"]) == ("ok", None)


def test_a_container_without_the_hosts_loopback() -> None:
    document = diagnosed(LOOPBACK, "container")
    assert document["cause"] == "II015"
    assert "this container has a loopback of its own" in document["headline"]


def test_an_agent_that_is_installed_and_stopped() -> None:
    document = diagnosed(LOOPBACK + AGENT)
    assert document["cause"] == "II030"
    assert document["headline"] == "the Azure Arc agent is installed and does not run"


def test_an_agent_that_is_installed_and_runs_is_healthy() -> None:
    document = diagnosed(LOOPBACK + AGENT + TOKENS, "arc")
    assert (document["status"], document["cause"]) == ("ok", None)


def test_an_agent_whose_certificate_has_expired() -> None:
    document = diagnosed(LOOPBACK + AGENT + TOKENS, "expired")
    assert document["cause"] == "II034"
    assert "the Azure Arc agent's certificate has expired" in document["headline"]


def test_a_user_who_is_not_in_the_agents_group() -> None:
    document = diagnosed(LOOPBACK + AGENT + TOKENS, "nobody")
    assert document["cause"] == "II032"
    assert "may not read the Azure Arc agent's key files" in document["headline"]


def test_somebody_else_on_the_agents_port() -> None:
    document = diagnosed(LOOPBACK + AGENT + TOKENS, "squatter")
    assert document["cause"] == "II031"
    assert "somebody else than the Azure Arc agent listens on its port" in document["headline"]


# The worlds of the transcripts in docs/doctor.md, in their order.
SHOWN = (
    (NETWORKS["second interface"][0], "alone"),
    (AT_THE_ADDRESS, "wrong"),
    (LOOPBACK + AGENT + TOKENS, "nobody"),
    (AT_THE_ADDRESS, "left_over"),
    (AT_THE_ADDRESS, "slow"),
)


def told(screen: str) -> list[str]:
    """The cause, what mends it, and how each check ended; what it saw differs from run to run."""
    cause, _, evidence = screen.partition("\n\n")
    return [cause, *re.findall(r"^\w+ +II[0-9]{3} [^:]+:", evidence, re.MULTILINE)]


@pytest.mark.parametrize("number", range(len(SHOWN)))
def test_a_transcript_in_the_documentation_is_what_is_said(number: int) -> None:
    page = Path(__file__).parents[2] / "docs" / "doctor.md"
    blocks = re.findall(r"```console\n\$ [^\n]*\n(.*?)```", page.read_text(), re.DOTALL)
    assert len(blocks) == len(SHOWN)
    prepare, world = SHOWN[number]
    assert told(said_in(prepare, world, "screen")) == told(blocks[number])
