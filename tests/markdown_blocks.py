"""Code blocks of Markdown pages, so that tests can run the code that readers copy."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
_FENCED = re.compile(
    r"(?:^ *<!-- *(?P<note>not run: [^\n]+?|continues) *-->\n\n?)?"
    r"^(?P<indent> *)(?P<fence>`{3,})(?P<language>[\w+-]*)"
    r"(?: +title=\"(?P<title>[^\"]+)\")?[^\n]*\n"
    r"(?P<text>.*?)"
    r"^(?P=indent)(?P=fence) *$",
    re.DOTALL | re.MULTILINE,
)
_PROMPT = re.compile(r"^\$ (.*)$", re.MULTILINE)


class Block(NamedTuple):
    """A fenced code block.

    Attributes:
        page: the page's path relative to the repository.
        line: the number of its first line of code.
        language: its language, or empty.
        text: the code; after `<!-- continues -->` it includes the block before.
        skip_reason: why no test runs it, from `<!-- not run: REASON -->` above the block.
        title: its title, from `title="…"` after the language.
    """

    page: str
    line: int
    language: str
    text: str
    skip_reason: str | None = None
    title: str | None = None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> str:
        """Return the commands of a console block, without prompts and output."""
        return "\n".join(_PROMPT.findall(self.text))


def blocks(page: str, *languages: str) -> list[Block]:
    """Return the fenced code blocks of a page.

    Args:
        page: its path relative to the repository.
        languages: only blocks in these languages; all blocks by default.
    """
    markdown = (ROOT / page).read_text(encoding="utf-8")
    found: list[Block] = []
    previous: dict[str, str] = {}
    for match in _FENCED.finditer(markdown):
        language, note = match["language"], match["note"] or ""
        text = re.sub(f"^{match['indent']}", "", match["text"], flags=re.MULTILINE)
        if note == "continues":
            text = previous[language] + text
        previous[language] = text
        line = markdown.count("\n", 0, match.start("text")) + 1
        skip_reason = note.removeprefix("not run: ") if note.startswith("not run: ") else None
        found.append(Block(page, line, language, text, skip_reason, match["title"]))
    return [block for block in found if not languages or block.language in languages]
