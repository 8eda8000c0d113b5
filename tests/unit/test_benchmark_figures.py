"""README shows the figures of one saved benchmark run."""

from __future__ import annotations

import importlib
from functools import reduce
from typing import TYPE_CHECKING, Any

import pytest

from markdown_blocks import ROOT

if TYPE_CHECKING:
    from pathlib import Path

IMAGES = ROOT / "docs" / "images"
UPDATE_COMMAND = "python tests/benchmarks/run.py --plot docs/images threads"


@pytest.fixture
def render(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Render the table and the chart of the figures in a directory."""
    monkeypatch.syspath_prepend(ROOT / "tests" / "benchmarks")
    import figures
    import plot
    import table

    def table_and_chart(directory: Path) -> tuple[str, str]:
        saved = figures.load(directory / "bench.json")
        return "\n".join([table.HEAD, *table.rows(saved)]), plot.svg(saved)

    return table_and_chart


def test_readme_shows_the_table_and_chart_of_the_saved_run(render: Any) -> None:
    table, chart = render(IMAGES)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert table in readme, f"put this into README:\n{table}"
    assert (IMAGES / "bench.svg").read_text(encoding="utf-8") == chart, f"run: {UPDATE_COMMAND}"


def test_time_breakdown_names_existing_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "tests" / "benchmarks")
    import time_breakdown

    functions = [function for _, function, _ in time_breakdown.STEPS if function]
    assert functions
    for function in functions:
        module, _, path = function.partition(":")
        owner = importlib.import_module(f"imds_identity.{module}")
        assert callable(reduce(getattr, path.split("."), owner)), function


def test_missing_figure_is_named(render: Any, tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="requests of 64 threads vs azure-identity"):
        render(tmp_path)
