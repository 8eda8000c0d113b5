"""Each test path that a script, a page or a program of the repository names exists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from markdown_blocks import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

TESTS = ROOT / "tests"
FILES = sorted(
    path
    for pattern in (
        "Makefile", "*.md", "*.toml", ".ci/run", ".readthedocs.yaml", "docs/**/*.md",
        "docs/**/*.py", ".github/**/*.*", "examples/**/*.py", "tests/**/*.sh", "tests/**/*.py",
        "tests/**/*.txt",
    )
    for path in ROOT.glob(pattern)
    # The change log names tests of earlier versions, and this file names missing ones.
    if path.name not in ("CHANGELOG.md", Path(__file__).name)
)  # fmt: skip
# `tests/…`, or the path of a test below it, with globs and braces; then perhaps a test in the file.
PATH = re.compile(
    r"(?<![\w./{}*-])(?:tests/|(?=(?:unit|integration|emulator|interop|soak|package)/test_))"
    r"(?P<path>[\w./*,{}-]*[\w*}])(?:::(?:Test\w+::)?(?P<test>test_\w+))?"
)


def expand_braces(path: str) -> Iterator[str]:
    """Yield the paths that a shell makes of ``path``."""
    match = re.search(r"\{([^{}]*)\}", path)
    if match is None:
        yield path
        return
    for choice in match[1].split(","):
        yield from expand_braces(path[: match.start()] + choice + path[match.end() :])


def problems(text: str) -> Iterator[str]:
    for match in PATH.finditer(text):
        for path in expand_braces(match["path"]):
            found = list(TESTS.glob(path.removesuffix("/**")))
            if not found:
                yield f"tests/{path} does not exist"
            elif match["test"] and f"def {match['test']}(" not in found[0].read_text("utf-8"):
                yield f"tests/{path} has no test {match['test']}"


def test_named_tests_exist() -> None:
    found = {file: list(problems(file.read_text(encoding="utf-8"))) for file in FILES}
    assert {file: missing for file, missing in found.items() if missing} == {}


def test_missing_tests_are_found() -> None:
    text = "tests/unit/test_{named_paths,missing}.py unit/test_named_paths.py::test_gone"
    assert list(problems(text)) == [
        "tests/unit/test_missing.py does not exist",
        "tests/unit/test_named_paths.py has no test test_gone",
    ]
