"""The emulator as a program: serves until a signal, and says what clients must export."""

from __future__ import annotations

import contextlib
import queue
import shlex
import signal
import sys
import time
from typing import TYPE_CHECKING

from .._services.openid import JWKS_PATH
from .._services.token import TOKEN_PATH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .._emulator import Emulator
    from .._world.records import RecordedRequest

# Any of these, left over in a shell, would lead a client somewhere else.
_MISLEADING = (
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_POD_IDENTITY_AUTHORITY_HOST",
    "IDENTITY_ENDPOINT",
    "IDENTITY_HEADER",
    "IDENTITY_SERVER_THUMBPRINT",
    "IMDS_ENDPOINT",
    "MSI_ENDPOINT",
    "MSI_SECRET",
)


def shell_lines(environment: dict[str, str], endpoint: str) -> list[str]:
    """What clients must export, as lines that a POSIX shell can evaluate.

    Args:
        environment: the variables that the Azure SDKs read.
        endpoint: the emulator's URL; empty where no client but the SDKs can be led to it.

    Returns:
        The lines.
    """
    unset = [name for name in _MISLEADING if name not in environment]
    lines = [f"unset {' '.join(unset)}", "# Azure SDKs and MSAL"]
    lines += [_export(name, value) for name, value in environment.items()]
    # A token of this emulator would be served to clients of the next one at the same port.
    lines += [
        "# imds-identity, else its processes share tokens",
        _export("IMDS_IDENTITY_CACHE", "off"),
    ]
    if "AZURE_POD_IDENTITY_AUTHORITY_HOST" in environment:
        lines += [
            "# GDAL",
            _export("CPL_AZURE_VM_API_ROOT_URL", endpoint),
            "# object_store, obstore",
            _export("AZURE_MSI_ENDPOINT", endpoint + TOKEN_PATH),
            "# go-autorest, such as Prometheus, reads MSI_ENDPOINT, which misleads the SDKs:",
            f"# {_export('MSI_ENDPOINT', endpoint + '/oauth2/token')}",
        ]
    lines.append(f"# To verify tokens: {endpoint}{JWKS_PATH}")
    return lines


def key_vault_lines(url: str, ca_file: str) -> list[str]:
    """The shell lines that tell of the Key Vault."""
    return [
        "# The Key Vault, and the root certificate to trust for it",
        _export("IMDS_EMULATOR_KEY_VAULT_URL", url),
        _export("IMDS_EMULATOR_KEY_VAULT_CA_FILE", ca_file),
    ]


def _export(name: str, value: str) -> str:
    return f"export {name}={shlex.quote(value)}"


def serve(
    emulator: Emulator,
    *,
    started: Callable[[Emulator], None] | None = None,
    requested: Callable[[RecordedRequest], None] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM, then stop cleanly. To be called on the main thread.

    Args:
        emulator: what to serve; not yet started.
        started: called once it serves.
        requested: called with each request, on the serving thread.
    """
    if requested is not None:
        emulator.on_request(requested)
    with _end_signal() as end, emulator:
        if started is not None:
            started(emulator)
        end.get()


@contextlib.contextmanager
def _end_signal() -> Iterator[queue.SimpleQueue[int]]:
    # A signal handler may run inside any lock; SimpleQueue.put is reentrant, Event.set is not.
    end: queue.SimpleQueue[int] = queue.SimpleQueue()
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(kind, lambda number, _: end.put(number)) for kind in kinds]
    try:
        yield end
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)


def request_line(record: RecordedRequest) -> str:
    """One line about a request, printable whatever the client sent."""
    moment = time.strftime("%H:%M:%S", time.gmtime(record.time))
    status = record.status or "---"
    note = f"  [{record.note}]" if record.note else ""
    target = record.target.encode("ascii", "backslashreplace").decode()
    return f"{moment} {status} {record.method} {target}{note}"


def print_request(record: RecordedRequest) -> None:
    """Write one line about a request to standard error."""
    sys.stderr.write(request_line(record) + "\n")
    sys.stderr.flush()
