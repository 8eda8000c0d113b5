"""Has pytest skip what needs cryptography, for interpreters that there is no build of it for.

Load it with ``-p without_cryptography``; the emulator needs cryptography, too.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

_TESTS = Path(__file__).parent.parent
_NEEDS_IT = re.compile(
    r"^(from|import) (attested_support|cryptography|imds_identity\.emulator)", re.MULTILINE
)
_EMULATORS = re.compile(r"started|.*emulator.*")
_REASON = "needs cryptography"


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out modules that cannot be imported."""
    if collection_path == _TESTS / "emulator":
        return True
    is_module = collection_path.suffix == ".py"
    return True if is_module and _NEEDS_IT.search(collection_path.read_text("utf-8")) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests that use an emulator."""
    for item in items:
        if any(_EMULATORS.fullmatch(name) for name in getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.skip(reason=_REASON))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, Any, Any]:
    """Skip a test that turns out to need it."""
    try:
        return (yield)
    except ModuleNotFoundError:
        pytest.skip(_REASON)
