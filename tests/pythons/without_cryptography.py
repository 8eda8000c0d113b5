"""Has pytest skip what needs cryptography, for interpreters that there is no build of it for.

Load it with ``-p without_cryptography``; the emulator, MSAL and azure-identity need it, too.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

_TESTS = Path(__file__).parent.parent
# Their emulators run in fixtures and in processes of their own.
_EMULATORS = re.compile(r"started|.*emulator.*")
_EMULATED = ("test_doctor_machines.py", "test_pictures.py")
_REASON = "needs cryptography"


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out the emulator's own tests, whose conftest cannot be imported."""
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
        if item.path.name in _EMULATED or any(map(_EMULATORS.fullmatch, names)):
            item.add_marker(pytest.mark.skip(reason=_REASON))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, Any, Any]:
    """Skip a test that turns out to need it."""
    try:
        return (yield)
    except ModuleNotFoundError:
        pytest.skip(_REASON)
