"""What the firmware says of whose machine this is, which takes no network and no time.

Hyper-V, and so a laptop with virtual machines, has the same vendor and product as Azure; the
chassis asset tag is Azure's alone. It is what cloud-init and systemd look at, too.
"""

from __future__ import annotations

import sys

ASSET_TAG = "7783-7084-3265-9085-8269-3286-77"
"""The chassis asset tag of every Azure VM."""

_LINUX_FILE = "/sys/class/dmi/id/chassis_asset_tag"
_LONGEST = 256


def is_azure_by_dmi(path: str = _LINUX_FILE) -> bool | None:
    """Whether the firmware says that this is an Azure VM; None where it cannot be asked.

    Args:
        path: where Linux shows the chassis asset tag.
    """
    if sys.platform != "linux":
        return None
    try:
        with open(path, "rb") as file:
            return file.read(_LONGEST).strip() == ASSET_TAG.encode()
    except OSError:
        return None
