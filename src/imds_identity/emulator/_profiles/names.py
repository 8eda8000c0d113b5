"""The names under which requests may come."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._messages import Request

_HOST = re.compile(r"(\[[^\]]*\]|[^:]*)(?::[0-9]*)?")


class HostNames:
    """Which Host headers are meant for this machine.

    A web page can make a browser reach any port of this machine, but only under the name of its own
    site (DNS rebinding). Addresses and ``localhost`` belong to no site.

    Args:
        names: further names that are this machine's.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = frozenset(name.lower() for name in names)

    def admit(self, request: Request) -> bool:
        """Whether a request names this machine, or no host at all."""
        given = request.header_values("host")
        return not given or (len(given) == 1 and self._is_ours(given[0]))

    def _is_ours(self, given: str) -> bool:
        found = _HOST.fullmatch(given.strip().lower())
        if found is None:
            return False
        name = found.group(1)
        if name in self._names or name == "localhost" or name.endswith(".localhost"):
            return True
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True
