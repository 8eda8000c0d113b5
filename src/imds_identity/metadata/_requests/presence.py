"""Whether this is an Azure VM, found out before anybody has to wait for it."""

from __future__ import annotations

import json
import re
import socket
import threading
from typing import TYPE_CHECKING

from ..._core.source import IMDS
from ..._platform.clock import SYSTEM_CLOCK
from ..._platform.threads import start_thread
from ..._sources.firmware import firmware
from ..._sources.registry import detect as source_of
from .versions import KNOWN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..._platform.clock import Clock
    from ..._sources.firmware import Firmware

SECONDS = 0.25
"""How long the service has to answer. On an Azure VM it takes a few thousandths of a second."""

_LARGEST = 64 * 1024
_URL = re.compile(r"http://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::([0-9]{1,5}))?/?")


def detect(*, endpoint: str | None = None) -> bool:
    """Whether this is an Azure VM. It takes less than 0.3 seconds, wherever that is asked.

    The firmware tells at once. Only where it does not (in a container that does not show it, say)
    the metadata service is asked, for its versions; nothing else than Azure's gives that answer,
    neither other clouds' services at the same address nor an Azure Arc agent. A ``False`` may come
    of a service that has not started yet: see `MetadataClient.require`.

    Args:
        endpoint: the service to ask, come what may; also ``AZURE_POD_IDENTITY_AUTHORITY_HOST``.
    """
    source = source_of(IMDS)
    named = endpoint or (source.variable and source.endpoint.partition("/metadata/")[0])
    return _is_azure(named or None, firmware(), source.endpoint.partition("/metadata/")[0])


def _is_azure(named: str | None, said: Firmware, usual: str) -> bool:
    if named is None and said.is_azure is not None:
        return said.is_azure
    return answers_as_azure(named or usual)


def answers_as_azure(endpoint: str, seconds: float = SECONDS, clock: Clock = SYSTEM_CLOCK) -> bool:
    """Whether Azure's metadata service answers at ``endpoint``.

    It is asked over a bare socket: to load an HTTP library takes longer than the answer may.

    Args:
        endpoint: an http URL; no other can be the service's.
        seconds: how long to wait for it, all in all.
        clock: the time.
    """
    match = _URL.fullmatch(endpoint)
    if match is None or not 0 < int(match[2] or 80) < 65536:
        return False
    host, port, deadline = match[1], int(match[2] or 80), clock.now() + seconds
    found: list[bool] = []
    done = threading.Event()

    def ask() -> None:
        try:
            found.append(_is_azures(b"".join(_answer(host, port, deadline, clock))))
        except (OSError, UnicodeError):
            pass
        finally:
            done.set()

    # In a thread of its own: nothing bounds the time in which a name is looked up.
    start_thread(ask)
    done.wait(seconds)
    return found == [True]


def _answer(host: str, port: int, deadline: float, clock: Clock) -> Iterator[bytes]:
    def left() -> float:
        return max(deadline - clock.now(), 0.001)

    with socket.create_connection((host.strip("[]"), port), left()) as connection:
        connection.settimeout(left())
        connection.sendall(
            f"GET /metadata/versions HTTP/1.1\r\nHost: {host}:{port}\r\nMetadata: true\r\n"
            "Accept: application/json\r\nConnection: close\r\n\r\n".encode()
        )
        size = 0
        while size < _LARGEST and clock.now() < deadline:
            connection.settimeout(left())
            part = connection.recv(_LARGEST)
            if not part:
                return
            size += len(part)
            yield part


def _is_azures(answer: bytes) -> bool:
    """Whether this HTTP answer lists api-versions of Azure's."""
    head, _, body = answer.partition(b"\r\n\r\n")
    if not re.match(rb"HTTP/1\.[01] 200(?: |\r|$)", head):
        return False
    # From the first brace to the last: the body may come in a chunk.
    start, end = body.find(b"{"), body.rfind(b"}")
    try:
        listed = json.loads(body[start : end + 1])["apiVersions"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return False
    return isinstance(listed, list) and any(version in KNOWN for version in listed)
