"""The site that `make docs` builds: complete, and asking nothing of anybody else."""

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

# What a browser fetches by itself; a link that a reader may follow is none of these.
FETCHED = {
    "audio": "src", "embed": "src", "iframe": "src", "img": "src", "link": "href", "object": "data",
    "script": "src", "source": "src", "video": "src",
}  # fmt: skip
NOT_FETCHED = {"canonical", "next", "prev"}


class Fetches(HTMLParser):
    """Collects what a page has a browser fetch, and what it leaves to a script from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if given.get("rel") not in NOT_FETCHED:
            self.found.append(given.get(FETCHED.get(tag, "")) or "")
        # Material loads what draws these diagrams from another host.
        assert "mermaid" not in (given.get("class") or "").split()


def pages() -> Iterator[Path]:
    yield from SITE.rglob("*.html")


@pytest.mark.docs
def test_no_page_has_a_browser_ask_another_host() -> None:
    assert len(list(pages())) > 30
    for page in pages():
        fetches = Fetches(page.read_text(encoding="utf-8")).found
        assert any(fetches)
        assert [url for url in fetches if urlsplit(url).netloc] == [], page


@pytest.mark.docs
def test_no_style_sheet_does() -> None:
    sheets = list(SITE.rglob("*.css"))
    assert sheets
    for sheet in sheets:
        urls = re.findall(
            r"(?:@import|url\()\s*[\"']?([^\"')\s]+)", sheet.read_text(encoding="utf-8")
        )
        assert [url for url in urls if urlsplit(url).netloc] == [], sheet


@pytest.mark.docs
@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("reference/imds_identity", "ManagedIdentityCredential"),
        ("reference/metadata", "verify_attested_document"),
        ("reference/emulator", "schedule_event"),
        ("reference/command-line", "exec-credential"),
        ("examples/dask_workers.py", "ContainerClient"),
        ("changelog", "Unreleased"),
    ],
)
def test_pages_made_of_other_files_are_there(page: str, words: str) -> None:
    assert words in (SITE / page / "index.html").read_text(encoding="utf-8")


@pytest.mark.docs
@pytest.mark.parametrize(
    "module",
    ["", ".aio", ".httpx", ".telemetry", ".metadata", ".metadata.aio", ".doctor", ".emulator"],
)
def test_each_public_name_is_in_the_reference(module: str) -> None:
    reference = "".join(
        page.read_text(encoding="utf-8") for page in (SITE / "reference").rglob("*.html")
    )
    names = set(importlib.import_module(f"imds_identity{module}").__all__) - {"__version__"}
    anchors = set(re.findall(r'id="imds_identity(?:\.\w+)*\.(\w+)"', reference))
    assert names - anchors == set()
