"""docs/security.md names an existing test for each promise and each threat."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# A second test of the same file may follow without its path.
TEST_NAME = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`(?: and `::(\w+)`)?")


def rows_of(section: str) -> list[str]:
    page = (ROOT / "docs/security.md").read_text(encoding="utf-8")
    table = page.partition(f"## {section}\n")[2].partition("\n## ")[0]
    return [line for line in table.splitlines() if line.startswith("| ")][1:]


@pytest.mark.parametrize(
    ("section", "fewest"),
    [("What is stored", 10), ("What is sent", 8), ("Threats", 35), ("Other promises", 10)],
)
def test_each_row_names_a_test_in_its_last_column(section: str, fewest: int) -> None:
    rows = rows_of(section)
    assert len(rows) >= fewest
    assert [row for row in rows if not TEST_NAME.search(row.split(" | ")[-1])] == []


@pytest.mark.parametrize("page", ["security.md", "comparison.md"])
def test_each_named_test_exists(page: str) -> None:
    tests = TEST_NAME.findall((ROOT / "docs" / page).read_text(encoding="utf-8"))
    assert tests
    for file, *names in tests:
        text = (ROOT / file).read_text(encoding="utf-8")
        assert [name for name in names if name and f"def {name}(" not in text] == []
