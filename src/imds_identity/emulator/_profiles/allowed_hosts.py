"""The check of the Host header."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._messages import Request

_HOST = re.compile(r"(\[[^\]]*\]|[^:]*)(?::[0-9]*)?")


class AllowedHosts:
    """Accepts requests for this machine only.

    A web page can make a browser send requests to any port of this machine, but only under the
    host name of its own site (DNS rebinding). IP addresses and ``localhost`` are safe to accept.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = frozenset(name.lower() for name in names)

    def allows(self, request: Request) -> bool:
        """Return whether a request is for this machine, or has no Host header."""
        values = request.header_values("host")
        return not values or (len(values) == 1 and self._is_allowed(values[0]))

    def _is_allowed(self, host: str) -> bool:
        found = _HOST.fullmatch(host.strip().lower())
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
