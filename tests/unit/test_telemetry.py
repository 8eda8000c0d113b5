"""The metrics that the hooks record."""

from __future__ import annotations

import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from imds_identity._core.event import outcome_of
from imds_identity._core.failure import Failure, Malformed, Refused, SecretUnreadable, Unavailable
from imds_identity._platform.clock import SYSTEM_CLOCK
from imds_identity.telemetry import Event, OpenTelemetryMetrics, PrometheusTextFile

if TYPE_CHECKING:
    from pathlib import Path

FETCH = Event("fetch", "imds", "fetched", 0.25, 3600.0)
FAILURE = Event("failure", "imds", "refused", 2.0, 0.0)


@pytest.fixture(autouse=True)
def noon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(SYSTEM_CLOCK), "wall", staticmethod(lambda: 1_800_000_000.0))


def test_each_failure_class_has_an_outcome() -> None:
    kinds: list[type[Failure]] = [Unavailable, Refused, Malformed, SecretUnreadable]
    assert [outcome_of(kind("x")) for kind in kinds] == [
        "unavailable", "refused", "malformed", "arc-secret",
    ]  # fmt: skip


class TestPrometheus:
    def test_file_contains_all_metrics(self, tmp_path: Path) -> None:
        hook = PrometheusTextFile(tmp_path / "app.prom")
        for event in (FETCH, FETCH, FAILURE):
            hook(event)
        fetched = 'event="fetch",source="imds",outcome="fetched"'
        refused = 'event="failure",source="imds",outcome="refused"'
        lines = (tmp_path / "app.prom").read_text().splitlines()
        assert [line for line in lines if not line.startswith("#")] == [
            f"imds_identity_fetches_total{{{fetched}}} 2",
            f"imds_identity_fetches_total{{{refused}}} 1",
            f"imds_identity_fetch_seconds_sum{{{fetched}}} 0.5",
            f"imds_identity_fetch_seconds_sum{{{refused}}} 2.0",
            f"imds_identity_fetch_seconds_count{{{fetched}}} 2",
            f"imds_identity_fetch_seconds_count{{{refused}}} 1",
            'imds_identity_token_expiry_seconds{source="imds"} 0.0',
        ]
        types = [line.split()[2:] for line in lines if line.startswith("# TYPE")]
        assert [kind for _, kind in types] == ["counter", "summary", "gauge"]

    def test_token_expiry_is_an_absolute_time(self, tmp_path: Path) -> None:
        PrometheusTextFile(tmp_path / "a.prom")(FETCH)
        assert 'expiry_seconds{source="imds"} 1800003600.0' in (tmp_path / "a.prom").read_text()

    def test_concurrent_events_leave_one_complete_file(self, tmp_path: Path) -> None:
        hook = PrometheusTextFile(str(tmp_path / "a.prom"))
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(hook, [FETCH] * 200))
        assert [path.name for path in tmp_path.iterdir()] == ["a.prom"]
        assert re.search(r'fetches_total\{.*"fetched"\} 200\n', (tmp_path / "a.prom").read_text())

    def test_missing_directory_raises_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(OSError, match="No such file"):
            PrometheusTextFile(tmp_path / "gone" / "a.prom")(FETCH)

    def test_path_that_the_collector_does_not_read_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"end in \.prom"):
            PrometheusTextFile(tmp_path / "a.txt")

    def test_forked_child_does_not_overwrite_the_file_of_its_parent(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hook = PrometheusTextFile(tmp_path / "a.prom")
        monkeypatch.setattr(os, "getpid", lambda: 1)
        hook(FETCH)
        assert list(tmp_path.iterdir()) == []

    def test_path_may_contain_the_process_id(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hook = PrometheusTextFile(tmp_path / "app-{pid}.prom")
        for process in (os.getpid(), 1, 1):
            monkeypatch.setattr(os, "getpid", lambda number=process: number)
            hook(FETCH)
        assert '"fetched"} 2\n' in (tmp_path / "app-1.prom").read_text()
        assert len(list(tmp_path.iterdir())) == 2


class Meter:
    """A meter that keeps the values of its instruments."""

    def __init__(self) -> None:
        self.recorded: dict[str, list[tuple[float, dict[str, str]]]] = {}

    def __getattr__(self, name: str) -> Any:
        assert name in ("create_counter", "create_histogram", "create_gauge")
        return self._instrument

    def _instrument(self, name: str, unit: str, description: str) -> Any:
        instrument = ModuleType(name)
        recorded = self.recorded.setdefault(name, [])
        for method in ("add", "record", "set"):
            setattr(instrument, method, lambda value, labels: recorded.append((value, labels)))
        return instrument


class TestOpenTelemetry:
    def test_event_is_recorded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        meter, api = Meter(), ModuleType("opentelemetry.metrics")
        monkeypatch.setattr(api, "get_meter", lambda *_, **__: meter, raising=False)
        monkeypatch.setitem(sys.modules, "opentelemetry", ModuleType("opentelemetry"))
        monkeypatch.setitem(sys.modules, "opentelemetry.metrics", api)
        OpenTelemetryMetrics()(FETCH)
        labels = {"event": "fetch", "source": "imds", "outcome": "fetched"}
        assert meter.recorded == {
            "imds_identity.fetches": [(1, labels)],
            "imds_identity.fetch.duration": [(0.25, labels)],
            "imds_identity.token.expiry": [(1_800_003_600.0, {"source": "imds"})],
        }

    def test_event_is_recorded_by_the_opentelemetry_sdk(self) -> None:
        metrics = pytest.importorskip("opentelemetry.sdk.metrics")
        export = pytest.importorskip("opentelemetry.sdk.metrics.export")
        reader = export.InMemoryMetricReader()
        OpenTelemetryMetrics(metrics.MeterProvider([reader]))(FETCH)
        [scope] = reader.get_metrics_data().resource_metrics[0].scope_metrics
        assert {metric.name: metric.unit for metric in scope.metrics} == {
            "imds_identity.fetches": "{fetch}",
            "imds_identity.fetch.duration": "s",
            "imds_identity.token.expiry": "s",
        }
