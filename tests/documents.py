"""The blocks of code in a page of Markdown, so that tests can run what readers will copy."""

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
    """A fenced block.

    Attributes:
        page: the page's path below the project's root.
        line: the number of its first line of code.
        language: what stands behind the fence; empty if nothing does.
        text: the code; what a block says that `continues` stands before it.
        why_not: why no test can run it, from `<!-- not run: REASON -->` before it.
        title: what stands over it, from `title="…"` behind the language.
    """

    page: str
    line: int
    language: str
    text: str
    why_not: str | None = None
    title: str | None = None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> str:
        """What is typed into a terminal, of a block that shows prompts and answers."""
        return "\n".join(_PROMPT.findall(self.text))


def blocks(page: str, *languages: str) -> list[Block]:
    """The fenced blocks of a page.

    Args:
        page: its path below the project's root.
        languages: those to look for; all when left out.
    """
    written = (ROOT / page).read_text(encoding="utf-8")
    found: list[Block] = []
    before: dict[str, str] = {}
    for match in _FENCED.finditer(written):
        language, note = match["language"], match["note"] or ""
        text = re.sub(f"^{match['indent']}", "", match["text"], flags=re.MULTILINE)
        if note == "continues":
            text = before[language] + text
        before[language] = text
        line = written.count("\n", 0, match.start("text")) + 1
        why_not = note.removeprefix("not run: ") if note.startswith("not run: ") else None
        found.append(Block(page, line, language, text, why_not, match["title"]))
    return [each for each in found if not languages or each.language in languages]
