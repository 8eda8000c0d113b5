"""Break machines in Linux namespaces, run the doctor's remedies there, and print what remains.

Each machine is a child process with its own network and mounts. It prints the check that fails, the
remedy, and the status of that check after the remedy.
"""

from __future__ import annotations

import ctypes
import grp  # before other users run, who may not read the interpreter
import json
import os
import pwd
import subprocess
import sys
import traceback
from typing import TYPE_CHECKING

from doctor_facts import ARC, IMDS, ISSUED, TIMED_OUT, facts, finding
from imds_identity._core.failure import SecretUnreadable
from imds_identity._sources.arc.key_file import read_secret
from imds_identity._sources.firmware import ASSET_TAG, Firmware
from imds_identity.doctor._facts.agent import gather_agent
from imds_identity.doctor._facts.facts import System
from imds_identity.doctor._facts.network import gather_network
from imds_identity.doctor.diagnosis import run_checks

if TYPE_CHECKING:
    from collections.abc import Callable

    from imds_identity.doctor._facts.facts import Facts

NEW_NETWORK, NEW_MOUNTS = 0x40000000, 0x00020000
TOKENS = "/var/opt/azcmagent/tokens"
USER, USER_ID = "shop", 4711
RESTART = f"printf key > {TOKENS}/a.key"  # the agent writes its files again
ETH0 = """
ip link set lo up
ip link add eth0 type veth peer name far0
ip link set eth0 up
ip link set far0 up
ip address add 10.0.0.4/24 dev eth0
"""
DEFAULT = ETH0 + "ip route add default via 10.0.0.1 dev eth0\n"
ETH1 = """
ip link add eth1 type veth peer name far1
ip link set eth1 up
ip link set far1 up
ip address add 192.168.7.4/24 dev eth1
"""
AGENT = f"""
mount -t tmpfs none /var/opt
mkdir -p {TOKENS}
mkdir /run/etc
cp -a /etc/passwd /etc/group /etc/shadow /etc/gshadow /etc/login.defs /run/etc
mount --bind /run/etc /etc
echo '{USER}:x:{USER_ID}:{USER_ID}::/:/bin/sh' >> /etc/passwd
echo '{USER}:!::0:99999:7:::' >> /etc/shadow
echo 'himds:x:987:' >> /etc/group
echo 'himds:!::' >> /etc/gshadow
chgrp -R 987 /var/opt/azcmagent
chmod 2750 {TOKENS}
"""


def on_network() -> Facts:
    azure = Firmware(ASSET_TAG, "Microsoft Corporation")
    return facts(probe=TIMED_OUT, network=gather_network(IMDS, 80), firmware=azure)


def on_arc() -> Facts:
    """Return the facts about the agent's directory for the user, after a new login."""
    os.setgroups(os.getgrouplist(USER, USER_ID))
    os.setegid(USER_ID)
    os.seteuid(USER_ID)
    try:
        agent = gather_agent(1, TOKENS, installed=True, listening=False)
        read_secret(f"{TOKENS}/a.key", TOKENS)
    except SecretUnreadable as failure:
        probe = ISSUED._replace(claims=None, failure=failure)
    else:
        probe = ISSUED
    finally:
        os.seteuid(0)
        os.setegid(0)
    return facts(ARC, probe, agent=agent, system=System(platform="Linux"))


MACHINES: dict[str, tuple[str, str, Callable[[], Facts]]] = {
    "no route": (ETH0, "II021", on_network),
    "blackhole route": (DEFAULT + f"ip route add blackhole {IMDS}/32", "II021", on_network),
    "prohibit route": (DEFAULT + "ip route add prohibit 169.254.0.0/16", "II021", on_network),
    "unreachable route": (DEFAULT + f"ip route add unreachable {IMDS}", "II021", on_network),
    "throw route": (DEFAULT + f"ip route add throw {IMDS}", "II021", on_network),
    "policy rule": (DEFAULT + f"ip rule add to {IMDS} prohibit", "II021", on_network),
    "policy rule for a network": (
        DEFAULT + "ip rule add pref 99 to 169.254.0.0/16 blackhole", "II021", on_network,
    ),
    "host route over another interface": (
        DEFAULT + ETH1 + f"ip route add {IMDS} dev eth1", "II022", on_network,
    ),
    "network route over another interface": (
        DEFAULT + ETH1 + "ip route add 169.254.0.0/16 dev eth1", "II022", on_network,
    ),
    "VPN": (
        DEFAULT + ETH1.replace("eth1", "wg0") + "ip route add 128.0.0.0/1 dev wg0", "II022",
        on_network,
    ),
    "link in place of a key file": (
        AGENT + f"chmod 755 {TOKENS}; ln -s /etc/passwd {TOKENS}/a.key", "II033", on_arc,
    ),
    "user without the group": (AGENT + RESTART + f"; chmod 640 {TOKENS}/a.key", "II032", on_arc),
}  # fmt: skip


def run(name: str) -> None:
    commands, number, gather = MACHINES[name]
    shell(commands)
    broken = finding(run_checks(gather()), number)
    shell(broken.remedy.replace("sudo ", "").replace("systemctl restart himdsd", RESTART))
    fixed = finding(run_checks(gather()), number)
    result = json.dumps([name, broken.status, broken.remedy, fixed.status, fixed.seen])
    os.write(1, f"{result}\n".encode())  # at once: other machines write, too


assert grp
assert pwd


def shell(commands: str) -> None:
    subprocess.run(["sh", "-ec", commands], check=True, capture_output=True)


def start(name: str) -> None:
    """Run a machine in a child process with its own network and mounts."""
    if os.fork():
        return
    status = 1
    try:
        if ctypes.CDLL(None, use_errno=True).unshare(NEW_NETWORK | NEW_MOUNTS):
            sys.exit(os.strerror(ctypes.get_errno()))
        shell("mount --make-rprivate /; mount -t tmpfs none /run")
        run(name)
        status = 0
    finally:
        if status:
            traceback.print_exc()
        os._exit(status)


if __name__ == "__main__":
    for machine in MACHINES:
        start(machine)
    for _ in MACHINES:
        os.wait()
