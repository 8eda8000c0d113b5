"""The security model names a test for each threat, and each of them is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def rows_of_threats() -> list[str]:
    page = (ROOT / "docs/security.md").read_text(encoding="utf-8")
    table = page.partition("## Threats\n")[2].partition("\n## ")[0]
    return [line for line in table.splitlines() if line.startswith("| ")][1:]


def test_each_threat_has_a_test() -> None:
    rows = rows_of_threats()
    assert len(rows) > 25
    assert [row for row in rows if not NAMED.search(row)] == []


@pytest.mark.parametrize("page", ["security.md", "comparison.md"])
def test_each_test_that_is_named_is_there(page: str) -> None:
    named = NAMED.findall((ROOT / "docs" / page).read_text(encoding="utf-8"))
    assert named
    for file, test in named:
        assert (
            f"def {test}(" in (ROOT / file).read_text(encoding="utf-8")
            if test
            else (ROOT / file).is_file()
        )
