"""docs/programs.md names the versions that `make interop` installs, and a test for each program."""

from __future__ import annotations

import re

from markdown_blocks import ROOT

PAGE = (ROOT / "docs/programs.md").read_text(encoding="utf-8")
REQUIREMENTS = (ROOT / "tests/interop/programs/requirements.txt").read_text(encoding="utf-8")


def test_page_names_the_installed_versions() -> None:
    versions = dict(re.findall(r"^([\w-]+)==([\w.]+)$", REQUIREMENTS, re.MULTILINE))
    assert versions
    named = re.findall(r"([a-z][\w-]+) (\d+\.\d+\.\d+)", PAGE.lower())
    assert set(named) == set(versions.items())


def test_each_program_names_a_test() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("|") and "---" not in line]
    tests = [row.split("|")[-2].strip() for row in rows if not row.startswith("| Program")]
    assert len(tests) > 15
    assert [test for test in tests if not re.match(r"the same$|`tests.*::test_\w+`$", test)] == []
