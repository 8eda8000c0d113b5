"""Ready-made ``on_event`` hooks: metrics by OpenTelemetry, or in a file for Prometheus.

    ManagedIdentityCredential(on_event=PrometheusTextFile("/var/lib/node_exporter/app.prom"))

Each counts fetches by event, source and outcome, and knows how long they take and until when the
last of them has brought a token. No resource, identity or token is in any metric, so that there
are few series.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from ._core.event import Event
from ._platform.clock import SYSTEM_CLOCK
from ._platform.extras import not_installed
from ._platform.files import write_atomically

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider

__all__ = ["Event", "OpenTelemetryMetrics", "PrometheusTextFile"]

_PID = "{pid}"
_FETCHES = "Fetches of managed-identity tokens that are over."
_SECONDS = "How long fetches of managed-identity tokens took."
_EXPIRY = "When the token ends that there was after the last fetch, in Unix time; 0 for none."


class OpenTelemetryMetrics:
    """An ``on_event`` hook that records by OpenTelemetry (``pip install imds-identity[otel]``).

    ``imds_identity.fetches`` is a counter, ``imds_identity.fetch.duration`` a histogram in seconds
    and ``imds_identity.token.expiry`` a gauge in seconds of Unix time, all by ``event``,
    ``source`` and ``outcome`` (the gauge by ``source`` alone).

    Args:
        meter_provider: in place of the global one.

    Raises:
        ModuleNotFoundError: without the package ``opentelemetry-api``.
    """

    def __init__(self, meter_provider: MeterProvider | None = None) -> None:
        try:
            from opentelemetry.metrics import get_meter
        except ModuleNotFoundError:
            raise not_installed("opentelemetry-api", "otel", type(self).__name__) from None
        meter = get_meter("imds_identity", meter_provider=meter_provider)
        self._fetches = meter.create_counter("imds_identity.fetches", "{fetch}", _FETCHES)
        self._seconds = meter.create_histogram("imds_identity.fetch.duration", "s", _SECONDS)
        self._expiry = meter.create_gauge("imds_identity.token.expiry", "s", _EXPIRY)

    def __call__(self, event: Event) -> None:
        """Record ``event``."""
        attributes = {"event": event.name, "source": event.source, "outcome": event.outcome}
        self._fetches.add(1, attributes)
        self._seconds.record(event.seconds, attributes)
        self._expiry.set(_expiry(event), {"source": event.source})


class PrometheusTextFile:
    """An ``on_event`` hook that keeps a file for the text-file collector of node_exporter.

    The file is replaced as a whole after each event. Each process needs a file of its own:
    ``{pid}`` in its name is the process's number, and without that a child of a fork writes none.
    https://github.com/prometheus/node_exporter#textfile-collector

    Args:
        path: of the file, which ends in ``.prom``; its directory must be there.

    Raises:
        ValueError: for a path that the collector would not read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.path.abspath(os.fspath(path))
        if not self._path.endswith(".prom"):
            raise ValueError(f"the collector reads files that end in .prom, not {self._path!r}")
        # By process: what a fork copies may be in the middle of a change, its lock held for ever.
        self._counts = {os.getpid(): _Counts()}

    def __call__(self, event: Event) -> None:
        """Count ``event``, and write the file anew."""
        process = os.getpid()
        if process not in self._counts and _PID not in self._path:
            return
        counts = self._counts.setdefault(process, _Counts())
        with counts.lock:
            counts.add(event)
            path = self._path.replace(_PID, str(process))
            write_atomically(path, counts.text().encode(), mode=0o666)


class _Counts:
    """What has happened in one process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._fetches: dict[tuple[str, str, str], int] = {}
        self._seconds: dict[tuple[str, str, str], float] = {}
        self._expiries: dict[str, float] = {}

    def add(self, event: Event) -> None:
        kind = event.name, event.source, event.outcome
        self._fetches[kind] = self._fetches.get(kind, 0) + 1
        self._seconds[kind] = self._seconds.get(kind, 0.0) + event.seconds
        self._expiries[event.source] = _expiry(event)

    def text(self) -> str:
        by_kind = [_labels(event=e, source=s, outcome=o) for e, s, o in self._fetches]
        by_source = [_labels(source=source) for source in self._expiries]
        lines = [
            *_family("imds_identity_fetches_total", "counter", _FETCHES),
            *_series("imds_identity_fetches_total", by_kind, self._fetches.values()),
            *_family("imds_identity_fetch_seconds", "summary", _SECONDS),
            *_series("imds_identity_fetch_seconds_sum", by_kind, self._seconds.values()),
            *_series("imds_identity_fetch_seconds_count", by_kind, self._fetches.values()),
            *_family("imds_identity_token_expiry_seconds", "gauge", _EXPIRY),
            *_series("imds_identity_token_expiry_seconds", by_source, self._expiries.values()),
        ]
        return "".join(f"{line}\n" for line in lines)


def _expiry(event: Event) -> float:
    return SYSTEM_CLOCK.wall() + event.remaining if event.remaining else 0.0


def _family(name: str, kind: str, explanation: str) -> list[str]:
    return [f"# HELP {name} {explanation}", f"# TYPE {name} {kind}"]


def _series(name: str, labels: list[str], values: Any) -> list[str]:
    return [f"{name}{{{label}}} {value}" for label, value in zip(labels, values, strict=True)]


def _labels(**labels: str) -> str:
    return ",".join(f'{name}="{value}"' for name, value in labels.items())
