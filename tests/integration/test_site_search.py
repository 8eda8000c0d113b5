"""The site's search finds the section for an error message that a reader pastes.

Chromium shows the same results, after docs/javascripts/search.js has removed frequent words and
characters that Lunr interprets as operators.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from markdown_blocks import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.docs
SITE = ROOT / "site"
SCRIPT = (ROOT / "docs/javascripts/search.js").read_text(encoding="utf-8")
FREQUENT = set(" ".join(re.findall(r'"((?:[a-z]+ )+[a-z]*)"', SCRIPT)).split())

# Each message follows the anchor of its section.
MESSAGES = [
    (message.strip(), anchor)
    for anchor, message in re.findall(
        r"(?ms)^\[([\w-]+)\]\n(.*?)(?=^\[[\w-]+\]$|\Z)",
        Path(__file__).with_name("pasted_errors.txt").read_text(encoding="utf-8"),
    )
]


def query_of(message: str) -> str:
    """Return the words that the script leaves of a pasted message."""
    text = re.sub(r"https?://\S+|[0-9a-f]{8}-[0-9a-f-]{20,}|[\w.]*\.(?=[A-Z])", " ", message)
    words = [word.strip(".'") for word in re.findall(r"[\w.']+", text)]
    words = [word for word in words if len(word) > 1 and not re.fullmatch(r"[\d.]+s?", word)]
    return " ".join(word for word in words if word.lower() not in FREQUENT)


@pytest.fixture(scope="module")
def search() -> Callable[[str], list[str]]:
    """Return the addresses that a search finds, best first, with the weights of the site."""
    lunr = pytest.importorskip("lunr").lunr
    path = SITE / "search/search_index.json"
    if not path.exists():
        pytest.skip("`make docs` builds the site")
    pages: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["docs"]
    index = lunr(
        ref="location",
        fields=[{"field_name": "title", "boost": 1000}, "text"],
        documents=[(page, {"boost": page.get("boost", 1)}) for page in pages],
    )
    return lambda query: [result["ref"] for result in index.search(query)]


@pytest.mark.parametrize(("message", "anchor"), MESSAGES, ids=lambda value: value[:30])
def test_pasted_message_is_found(
    message: str, anchor: str, search: Callable[[str], list[str]]
) -> None:
    html = (SITE / "troubleshooting/index.html").read_text(encoding="utf-8")
    [heading] = re.findall(rf'<h3 id="([^"]+)">(?:(?!</h3>).)*<a id="{anchor}">', html)
    found = [location for location in search(query_of(message)) if "#" in location]
    assert f"troubleshooting/#{heading}" in found[:3]


def test_check_of_the_doctor_links_to_the_messages_that_it_explains() -> None:
    page = SITE / "doctor/index.html"
    if not page.exists():
        pytest.skip("`make docs` builds the site")
    row = page.read_text(encoding="utf-8").partition('id="ii050"')[2].partition("</tr>")[0]
    assert '"../troubleshooting/#identity-not-found"' in row
