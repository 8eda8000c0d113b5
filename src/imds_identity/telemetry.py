"""Metrics of token fetches: ``on_event`` hooks for OpenTelemetry and Prometheus.

    ManagedIdentityCredential(on_event=PrometheusTextFile("/var/lib/node_exporter/app.prom"))

Both count fetches by event, source and outcome, and record their duration and the expiry of the
last token. No metric contains a resource, an identity or a token, so there are few time series.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from ._core.event import Event
from ._platform.clock import SYSTEM_CLOCK
from ._platform.imports import not_installed
from ._platform.output_files import write_output

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opentelemetry.metrics import MeterProvider

__all__ = ["Event", "OpenTelemetryMetrics", "PrometheusTextFile"]

_PID = "{pid}"
_FETCHES = "Completed fetches of managed identity tokens."
_SECONDS = "Duration of fetches of managed identity tokens."
_EXPIRY = "Expiry of the token after the last fetch, in Unix time; 0 if there is no token."


class OpenTelemetryMetrics:
    """An ``on_event`` hook for OpenTelemetry (``pip install imds-identity[otel]``).

    ``imds_identity.fetches`` is a counter, ``imds_identity.fetch.duration`` a histogram in seconds
    and ``imds_identity.token.expiry`` a gauge in seconds of Unix time. Their attributes are
    ``event``, ``source`` and ``outcome``; the gauge only has ``source``.

    Args:
        meter_provider: used instead of the global one.

    Raises:
        ModuleNotFoundError: if the package ``opentelemetry-api`` is not installed.
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
    """An ``on_event`` hook that writes a file for the textfile collector of node_exporter.

    It replaces the file atomically after each event. Each process needs a separate file: ``{pid}``
    in the path is replaced by the process ID. Without it, a forked child does not write a file.
    https://github.com/prometheus/node_exporter#textfile-collector

    Args:
        path: of the file. It must end in ``.prom``, and its directory must exist.

    Raises:
        ValueError: if the path does not end in ``.prom``.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.path.abspath(os.fspath(path))
        if not self._path.endswith(".prom"):
            raise ValueError(f"{self._path!r} must end in .prom, or the collector does not read it")
        # By process, because a fork may copy a lock that is held and counts that are incomplete.
        self._counts = {os.getpid(): _Counts()}

    def __call__(self, event: Event) -> None:
        """Count ``event`` and replace the file.

        Raises:
            OSError: if the file cannot be written.
        """
        process = os.getpid()
        if process not in self._counts and _PID not in self._path:
            return
        counts = self._counts.setdefault(process, _Counts())
        with counts.lock:
            counts.add(event)
            path = self._path.replace(_PID, str(process))
            # Other users may write to the collector's directory: the file contains no secret.
            write_output(path, counts.text().encode(), mode=0o666, parent_is_checked=False)


class _Counts:
    """The metrics of one process."""

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
        by_kind = [f'event="{e}",source="{s}",outcome="{o}"' for e, s, o in self._fetches]
        by_source = [f'source="{source}"' for source in self._expiries]
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


def _series(name: str, labels: list[str], values: Iterable[float]) -> list[str]:
    return [f"{name}{{{label}}} {value}" for label, value in zip(labels, values, strict=True)]
