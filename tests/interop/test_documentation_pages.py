"""Documentation pages whose code needs additional packages."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import pytest

from page_runner import run_page

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.interop


PAGES = {
    "docs/how-to/management-plane.md": "azure-mgmt-resource-subscriptions",
    "docs/how-to/openai.md": "openai",
    "docs/how-to/other-clouds.md": "databricks-sdk",
    "docs/how-to/sql.md": "SQLAlchemy",
}


@pytest.mark.parametrize("page", PAGES)
def test_code_blocks_of_a_page_run_in_order(page: str, tmp_path: Path) -> None:
    try:
        version(PAGES[page])
    except PackageNotFoundError:
        pytest.skip(f"{PAGES[page]} is not installed: see .interop/clients.log")
    run_page(page, tmp_path, interop=True)
