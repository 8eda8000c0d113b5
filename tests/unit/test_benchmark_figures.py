"""The figures that README shows are those of one saved run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from documents import ROOT

if TYPE_CHECKING:
    from pathlib import Path

IMAGES = ROOT / "docs" / "images"
AGAIN = "python tests/benchmarks/run.py --plot docs/images threads"


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The table and the picture of the figures in a directory."""
    monkeypatch.syspath_prepend(ROOT / "tests" / "benchmarks")
    import plot
    import report
    import table

    def of(directory: Path) -> tuple[str, str]:
        figures = report.saved(directory / "bench.json")
        return "\n".join([table.HEAD, *table.rows(figures)]), plot.svg(figures)

    return of


def test_readme_has_the_table_and_the_picture_of_the_saved_run(shown: Any) -> None:
    table, picture = shown(IMAGES)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert table in readme, f"put this into README:\n{table}"
    assert (IMAGES / "bench.svg").read_text(encoding="utf-8") == picture, f"run: {AGAIN}"


def test_a_figure_that_was_not_measured_is_named(shown: Any, tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="requests of 64 threads, beside azure-identity"):
        shown(tmp_path)
