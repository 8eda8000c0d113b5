"""Broken machines that need Linux namespaces: separate networks, mounts and users."""

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
# A gateway that does not exist: packets to it are lost.
LOST_PACKETS = """
ip neigh add 10.0.0.1 lladdr 02:00:00:00:00:01 dev eth0 nud permanent
ip route add default via 10.0.0.1 dev eth0
"""
SERVICE_ADDRESS = LOOPBACK + "\nip address add 169.254.169.254/32 dev lo\n"
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
def missing_requirement() -> str:
    """Return why namespaces cannot be used; empty if they can."""
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("unshare"):
        return "requires root and unshare on Linux"
    unshare = subprocess.run(
        ["unshare", "-n", "-m", "sh", "-ec", ETH0], capture_output=True, text=True, check=False
    )
    return unshare.stderr.strip() if unshare.returncode else ""


def diagnose(commands: str, machine: str = "no_service") -> dict[str, Any]:
    """Run the doctor with JSON output in namespaces that shell commands prepare."""
    document: dict[str, Any] = json.loads(run_doctor(commands, machine))
    assert document["requests"] <= 8
    return document


def run_doctor(commands: str, machine: str, *arguments: str) -> str:
    """Run `doctor_machines.py` in namespaces that shell commands prepare."""
    if missing_requirement():
        pytest.skip(missing_requirement())
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name in ("PATH", "PYTHONPATH", "COVERAGE_PROCESS_START", "HOME")
    }
    completed = subprocess.run(
        ["unshare", "-n", "-m", "sh", "-ec", f'{commands}\nexec "$@"', "sh",
         sys.executable, str(SCRIPT), machine, *arguments],
        capture_output=True, text=True, check=False, timeout=60,
        env={**inherited, "IMDS_IDENTITY_CACHE": "off"},
    )  # fmt: skip
    assert completed.returncode == 0, completed.stderr
    return completed.stdout


NETWORKS = {
    "no route": (ETH0, "II021", "there is no route to 169.254.169.254: Network is unreachable"),
    "prohibited by a policy rule": (
        ETH0 + LOST_PACKETS + "ip rule add to 169.254.169.254 prohibit",
        "II021",
        "to 169.254.169.254/32 prohibit drops requests to 169.254.169.254",
    ),
    "IPv6 only": (
        LOOPBACK
        + INTERFACE.format(name="eth0", address="10.0.0.4")
        + "ip address flush dev eth0\nip -6 address add 2001:db8::4/64 dev eth0 nodad",
        "II020",
        "has no IPv4 address, and 169.254.169.254 is not available over IPv6",
    ),
    "blackhole route": (
        ETH0 + LOST_PACKETS + "ip route add blackhole 169.254.169.254/32",
        "II021",
        "the blackhole route 169.254.169.254/32 drops requests to 169.254.169.254",
    ),
    "prohibit route": (
        ETH0 + LOST_PACKETS + "ip route add prohibit 169.254.0.0/16",
        "II021",
        "the prohibit route 169.254.0.0/16 drops requests to 169.254.169.254",
    ),
    "black hole": (ETH0 + LOST_PACKETS, "II023", "packets to 169.254.169.254 are lost"),
    "no listener": (SERVICE_ADDRESS, "II023", "no process listens at 169.254.169.254"),
    "second interface": (
        ETH0
        + LOST_PACKETS
        + INTERFACE.format(name="eth1", address="192.168.7.4")
        + "ip neigh add 169.254.169.254 lladdr 02:00:00:00:00:01 dev eth1 nud permanent\n"
        + "ip route add 169.254.0.0/16 dev eth1",
        "II022",
        "the route 169.254.0.0/16 sends 169.254.169.254 over eth1 and not over the primary",
    ),
    "VPN": (
        ETH0
        + LOST_PACKETS
        + INTERFACE.format(name="wg0", address="10.9.0.4")
        + "ip neigh add 10.9.0.1 lladdr 02:00:00:00:00:01 dev wg0 nud permanent\n"
        + "ip route add 128.0.0.0/1 via 10.9.0.1 dev wg0",
        "II022",
        "the route to 169.254.169.254 leads into a VPN (wg0)",
    ),
}


@pytest.mark.parametrize("network", NETWORKS)
def test_network_without_a_working_route(network: str) -> None:
    commands, cause, headline = NETWORKS[network]
    document = diagnose(commands)
    assert (document["cause"], document["requests"]) == (cause, 0)
    assert headline in document["headline"]


@pytest.mark.parametrize(
    "network", ["blackhole route", "prohibit route", "prohibited by a policy rule"]
)
def test_remedy_for_a_route_that_drops_requests_removes_it(network: str) -> None:
    commands, *_ = NETWORKS[network]
    document = diagnose(commands)
    [remedy] = [found["remedy"] for found in document["findings"] if found["id"] == "II021"]
    fixed = diagnose(f"{commands}\n({remedy.replace('sudo ', '')}) >/dev/null")
    assert fixed["cause"] == "II023"


def test_app_without_an_identity_is_known_before_its_network_is_blamed() -> None:
    document = diagnose(ETH0, "app_without_identity")
    assert (document["cause"], document["requests"]) == ("II016", 0)
    assert "the app 'shop' of App Service has no managed identity" in document["headline"]


def test_service_at_its_usual_address_is_healthy() -> None:
    document = diagnose(SERVICE_ADDRESS, "vm")
    assert (document["status"], document["cause"]) == ("ok", None)


def test_container_without_the_hosts_loopback() -> None:
    document = diagnose(LOOPBACK, "container")
    assert document["cause"] == "II015"
    assert "this container has a separate loopback interface" in document["headline"]


def test_agent_that_is_installed_but_not_running() -> None:
    document = diagnose(LOOPBACK + AGENT)
    assert document["cause"] == "II030"
    assert document["headline"] == "the Azure Arc agent is installed but not running"


def test_agent_that_is_installed_and_running_is_healthy() -> None:
    document = diagnose(LOOPBACK + AGENT + TOKENS, "arc")
    assert (document["status"], document["cause"]) == ("ok", None)


def test_agent_with_an_expired_certificate() -> None:
    document = diagnose(LOOPBACK + AGENT + TOKENS, "expired_certificate")
    assert document["cause"] == "II034"
    assert "the Azure Arc agent's certificate has expired" in document["headline"]


def test_user_who_is_not_in_the_agents_group() -> None:
    document = diagnose(LOOPBACK + AGENT + TOKENS, "other_user")
    assert document["cause"] == "II032"
    assert "may not read the Azure Arc agent's key files" in document["headline"]


def test_untrusted_listener_on_the_agents_port() -> None:
    document = diagnose(LOOPBACK + AGENT + TOKENS, "untrusted_listener")
    assert document["cause"] == "II031"
    assert "a process other than the Azure Arc agent listens" in document["headline"]


# The machines of the transcripts in docs/doctor.md, in their order.
TRANSCRIPTS = (
    (NETWORKS["second interface"][0], "no_service"),
    (SERVICE_ADDRESS, "wrong_client_id"),
    (LOOPBACK + AGENT + TOKENS, "other_user"),
    (SERVICE_ADDRESS, "leftover_variable"),
    (SERVICE_ADDRESS, "slow_clock"),
)


def stable_parts(screen: str) -> list[str]:
    """Return the cause, its fix and each check's status; the observations differ between runs."""
    cause, _, evidence = screen.partition("\n\n")
    return [cause, *re.findall(r"^\w+ +II[0-9]{3} [^:]+:", evidence, re.MULTILINE)]


@pytest.mark.parametrize("number", range(len(TRANSCRIPTS)))
def test_transcript_in_the_documentation_equals_the_real_output(number: int) -> None:
    page = Path(__file__).parents[2] / "docs" / "doctor.md"
    blocks = re.findall(r"```console\n\$ [^\n]*\n(.*?)```", page.read_text(), re.DOTALL)
    assert len(blocks) == len(TRANSCRIPTS)
    commands, machine = TRANSCRIPTS[number]
    output = run_doctor(commands, machine, "screen")
    assert stable_parts(output) == stable_parts(blocks[number])
