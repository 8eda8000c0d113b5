"""Azure's guest proxy agent, which enforces the Metadata Security Protocol on a virtual machine.

It redirects connections to 169.254.169.254 to itself and applies the VM's access rules.
https://learn.microsoft.com/azure/virtual-machines/metadata-security-protocol/overview
"""

from __future__ import annotations

import json
import os
import sys

_WINDOWS = sys.platform == "win32"
_PROGRAM = r"C:\WindowsAzure\ProxyAgent" if _WINDOWS else "/usr/sbin/azure-proxy-agent"
STATUS = (
    r"C:\WindowsAzure\ProxyAgent\Logs\status.json"
    if _WINDOWS
    else "/var/log/azure-proxy-agent/status.json"
)
_MAX_STATUS = 1 << 20
_LISTENERS = "/proc/thread-self/net/tcp"
_PORT = 3080
_LISTEN = b"0A"


def is_visible() -> bool:
    """Return whether the agent's program or listener is visible to this process."""
    return os.path.exists(_PROGRAM) or _is_listening()


def is_enforcing() -> bool:
    """Return whether the agent's status file shows that it enforces the access rules for IMDS.

    Only root and administrators can read the file.
    """
    try:
        with open(STATUS, "rb") as file:
            document = json.loads(file.read(_MAX_STATUS))
        state = document["proxyAgentStatus"]["keyLatchStatus"]["states"]["secureChannelState"]
        state = " ".join(state.lower().split())
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return False
    # Version 2 of the protocol: "WireServer Audit -  IMDS Enforce - HostGA Audit".
    return state == "wireserverandimds" or "imds enforce" in state


def _is_listening() -> bool:
    """Return whether a socket listens on the agent's address; False except on Linux."""
    address = int.from_bytes(b"\x7f\0\0\1", sys.byteorder)
    local = b"%08X:%04X" % (address, _PORT)
    try:
        with open(_LISTENERS, "rb") as file:
            sockets = [line.split()[1:4] for line in file]
    except OSError:
        return False
    return any(fields[::2] == [local, _LISTEN] for fields in sockets)
