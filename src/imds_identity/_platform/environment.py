"""The environment's variables, read once: nothing else looks at ``os.environ``."""

from __future__ import annotations

import os
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

VARIABLES = (
    "ALL_PROXY",
    "AZURE_AUTHORITY_HOST",
    "AZURE_CLIENT_ID",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_POD_IDENTITY_AUTHORITY_HOST",
    "AZURE_TENANT_ID",
    "AZURE_TRACING_ENABLED",
    "COMP_LINE",
    "COMP_POINT",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "IDENTITY_ENDPOINT",
    "IDENTITY_HEADER",
    "IDENTITY_SERVER_THUMBPRINT",
    "IMDS_ENDPOINT",
    "IMDS_IDENTITY_CACHE",
    "KUBERNETES_EXEC_INFO",
    "KUBERNETES_SERVICE_HOST",
    "LISTEN_FDS",
    "LISTEN_PID",
    "MSI_ENDPOINT",
    "MSI_SECRET",
    "NOTIFY_SOCKET",
    "NO_COLOR",
    "NO_PROXY",
    "ProgramData",
    "ProgramFiles",
    "REQUESTS_CA_BUNDLE",
    "XDG_RUNTIME_DIR",
    "_ARGCOMPLETE",
    "all_proxy",
    "http_proxy",
    "https_proxy",
    "no_proxy",
)
"""All that this package reads."""
_KNOWN = frozenset(VARIABLES)


class Environment:
    """The variables that this package knows, as they were at one moment.

    One that is empty is as good as not set. The repr shows names only, because some are secrets.

    Args:
        values: by name; those of this process by default.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        source = os.environ if values is None else values
        # Most are not set, and os.environ.get is slow about those. Another thread may unset one.
        self._values = {name: source.get(name, "") for name in VARIABLES if name in source}

    def __getitem__(self, name: str) -> str:
        """The value of a variable, empty where it is not set.

        Raises:
            KeyError: for one that is not among `VARIABLES`.
        """
        if name not in _KNOWN:
            raise KeyError(name)
        return self._values.get(name, "")

    def __repr__(self) -> str:
        return f"Environment({[name for name, value in self._values.items() if value]})"


def variable_value(name: str) -> str:
    """The present value of one of `VARIABLES`, for who needs no other; empty where it is not set.

    Raises:
        KeyError: for one that is not among them.
    """
    return Environment({name: os.environ.get(name, "")})[name]


def for_child(values: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of a process that this one starts.

    Args:
        values: what it gets beside this process's own, by name.
    """
    return {**os.environ, **values}


@contextmanager
def patched_environ(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables of this process for as long as a ``with`` block lasts.

    Args:
        values: by name.
    """
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
