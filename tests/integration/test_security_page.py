"""docs/security.md names an existing test for each threat."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEST_NAME = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def threat_rows() -> list[str]:
    page = (ROOT / "docs/security.md").read_text(encoding="utf-8")
    table = page.partition("## Threats\n")[2].partition("\n## ")[0]
    return [line for line in table.splitlines() if line.startswith("| ")][1:]


def test_each_threat_names_a_test() -> None:
    rows = threat_rows()
    assert len(rows) > 25
    assert [row for row in rows if not TEST_NAME.search(row)] == []


@pytest.mark.parametrize("page", ["security.md", "comparison.md"])
def test_each_named_test_exists(page: str) -> None:
    tests = TEST_NAME.findall((ROOT / "docs" / page).read_text(encoding="utf-8"))
    assert tests
    for file, test in tests:
        assert (
            f"def {test}(" in (ROOT / file).read_text(encoding="utf-8")
            if test
            else (ROOT / file).is_file()
        )
