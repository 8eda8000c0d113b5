"""Pytest plugin that skips tests that need cryptography, for interpreters without it.

Load it with ``-p without_cryptography``. The emulator, MSAL and azure-identity need cryptography.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

_TESTS = Path(__file__).parent.parent
# Fixtures that run an emulator, and test files that run one in another process.
_EMULATOR_FIXTURES = re.compile(r"started|.*emulator.*")
_EMULATOR_FILES = ("test_doctor_machines.py", "test_pictures.py")
_REASON = "needs cryptography"


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Ignore the emulator's tests, whose conftest cannot be imported."""
    return True if collection_path == _TESTS / "emulator" else None


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Skip modules that cannot be imported."""
    report = yield
    if report.failed and "ModuleNotFoundError" in str(report.longrepr):
        report.outcome = "skipped"
        report.longrepr = (str(collector.path), 0, _REASON)
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests that use an emulator."""
    for item in items:
        names = getattr(item, "fixturenames", ())
        if item.path.name in _EMULATOR_FILES or any(map(_EMULATOR_FIXTURES.fullmatch, names)):
            item.add_marker(pytest.mark.skip(reason=_REASON))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, Any, Any]:
    """Skip tests that fail to import cryptography."""
    try:
        return (yield)
    except ModuleNotFoundError:
        pytest.skip(_REASON)
