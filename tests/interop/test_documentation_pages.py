"""Documentation pages whose code needs additional packages."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from page_runner import run_page

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.interop


@pytest.mark.parametrize(("page", "package"), [("docs/how-to/openai.md", "openai")])
def test_code_blocks_of_a_page_run_in_order(page: str, package: str, tmp_path: Path) -> None:
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed: see .interop/clients.log")
    run_page(page, tmp_path)
