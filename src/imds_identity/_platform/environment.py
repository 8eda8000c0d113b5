"""Environment variables. No other module reads ``os.environ``."""

from __future__ import annotations

import os
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_known = dict.fromkeys((
    *("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE"),
    *("all_proxy", "http_proxy", "https_proxy", "no_proxy"),
    *("AZURE_AUTHORITY_HOST", "AZURE_CLIENT_ID", "AZURE_POD_IDENTITY_AUTHORITY_HOST"),
    *("AZURE_TENANT_ID", "AZURE_TRACING_ENABLED", "IMDS_IDENTITY_CACHE", "XDG_RUNTIME_DIR"),
    *("KUBERNETES_EXEC_INFO", "KUBERNETES_SERVICE_HOST"),
    *("LISTEN_FDS", "LISTEN_PID", "NOTIFY_SOCKET"),
    *("COMP_LINE", "COMP_POINT", "NO_COLOR", "TERM", "_ARGCOMPLETE"),
    *("ProgramData", "ProgramFiles"),
))  # fmt: skip
"""The variables that this package reads; `add_variables` adds those of hosts."""


def is_variable_name(name: str) -> bool:
    """Return whether shells can use ``name`` for a variable."""
    return name.isascii() and name.isidentifier()


def add_variables(*names: str) -> None:
    """Add the variables of a host to all later `Environment` snapshots."""
    _known.update(dict.fromkeys(names))


class Environment:
    """A snapshot of the variables that this package reads, by default those of this process.

    An empty variable counts as unset. The repr shows only names, because some values are secrets.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        source = os.environ if values is None else values
        # os.environ.get is slow for unset ones. Another thread may unset one in between.
        self._values = {name: source.get(name, "") for name in _known.keys() & set(source)}

    def __getitem__(self, name: str) -> str:
        """Return the value of a variable that this package reads; an empty string if not set."""
        if name not in _known:
            raise KeyError(name)
        return self._values.get(name, "")

    def names(self) -> list[str]:
        """Return the names of the variables that are set."""
        return sorted(name for name, value in self._values.items() if value)

    def without(self, *names: str) -> Environment:
        """Return an environment in which the variables ``names`` are not set."""
        if not names:
            return self
        return type(self)({n: value for n, value in self._values.items() if n not in names})

    def __repr__(self) -> str:
        return f"Environment({self.names()})"


def variable_value(name: str) -> str:
    """Return the current value of a single variable, as `Environment` does."""
    return Environment({name: os.environ.get(name, "")})[name]


def for_child(values: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a child process: that of this process and ``values``."""
    return {**os.environ, **values}


@contextmanager
def patched_environ(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables during a ``with`` block."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
