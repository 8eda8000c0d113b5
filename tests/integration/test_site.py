"""The site that `make docs` builds is complete and loads nothing from other hosts."""

from __future__ import annotations

import importlib
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SITE = ROOT / "site"

# The attributes whose URLs a browser loads by itself; links to follow are not among them.
LOADED = {
    "audio": "src", "embed": "src", "iframe": "src", "img": "src", "link": "href", "object": "data",
    "script": "src", "source": "src", "video": "src",
}  # fmt: skip
NOT_LOADED = {"canonical", "next", "prev"}


class LoadedUrls(HTMLParser):
    """Collects the URLs that a browser loads for a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.urls: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if attributes.get("rel") not in NOT_LOADED:
            self.urls.append(attributes.get(LOADED.get(tag, "")) or "")
        # Material loads the script for these diagrams from another host.
        assert "mermaid" not in (attributes.get("class") or "").split()


def pages() -> Iterator[Path]:
    yield from SITE.rglob("*.html")


@pytest.mark.docs
def test_pages_load_nothing_from_other_hosts() -> None:
    assert len(list(pages())) > 30
    for page in pages():
        urls = LoadedUrls(page.read_text(encoding="utf-8")).urls
        assert any(urls)
        assert [url for url in urls if urlsplit(url).netloc] == [], page


@pytest.mark.docs
def test_style_sheets_load_nothing_from_other_hosts() -> None:
    sheets = list(SITE.rglob("*.css"))
    assert sheets
    for sheet in sheets:
        urls = re.findall(
            r"(?:@import|url\()\s*[\"']?([^\"')\s]+)", sheet.read_text(encoding="utf-8")
        )
        assert [url for url in urls if urlsplit(url).netloc] == [], sheet


@pytest.mark.docs
@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("reference/imds_identity", "ManagedIdentityCredential"),
        ("reference/metadata", "verify_attested_document"),
        ("reference/emulator", "schedule_event"),
        ("reference/command-line", "exec-credential"),
        ("examples/dask_workers.py", "ContainerClient"),
        ("changelog", "Unreleased"),
    ],
)
def test_generated_pages_exist(page: str, text: str) -> None:
    assert text in (SITE / page / "index.html").read_text(encoding="utf-8")


@pytest.mark.docs
@pytest.mark.parametrize(
    "module",
    [
        "",
        ".aio",
        ".httpx",
        ".hashicorp_vault",
        ".keyring",
        ".telemetry",
        ".metadata",
        ".metadata.aio",
        ".doctor",
        ".emulator",
    ],
)
def test_reference_contains_each_public_name(module: str) -> None:
    reference = "".join(
        page.read_text(encoding="utf-8") for page in (SITE / "reference").rglob("*.html")
    )
    names = set(importlib.import_module(f"imds_identity{module}").__all__) - {"__version__"}
    anchors = set(re.findall(r'id="imds_identity(?:\.\w+)*\.(\w+)"', reference))
    assert names - anchors == set()
