"""An MkDocs hook that generates pages of the site from other files.

It generates the command-line reference from the parsers, a page for each example from its source,
and the changelog from CHANGELOG.md. Links to these files work on GitHub; on the site they point to
the generated pages.
"""

from __future__ import annotations

import ast
import posixpath
import re
from pathlib import Path
from typing import Any

from command_line import (
    reference,  # MkDocs adds a hook's directory to the path while it loads the hook
)
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]

_LANGUAGES = {
    ".py": "python",
    ".sh": "sh",
    ".yaml": "yaml",
    ".service": "ini",
    ".socket": "ini",
}
_BOOSTED = {"troubleshooting.md": 4}  # so that pasted error messages lead there
_OUTSIDE = re.compile(r"\]\((?:\.\./)+(examples(?:/[^)#\s]*)?|CHANGELOG\.md)\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages; MkDocs calls this."""
    examples = sorted(path for path in (ROOT / "examples").rglob("*") if path.suffix in _LANGUAGES)
    pages = {
        "reference/command-line.md": reference(),
        "changelog.md": _changelog(),
        "examples/index.md": _index(examples),
        **{_page_of(path): _example(path) for path in examples},
    }
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Replace links to files outside docs/ by links to their pages; MkDocs calls this.

    It also sets the weight of pages in the search, and links the doctor's checks to messages.
    """
    directory = posixpath.dirname(page.file.src_uri)
    if page.file.src_uri in _BOOSTED:
        page.meta["search"] = {"boost": _BOOSTED[page.file.src_uri]}

    if page.file.src_uri == "doctor.md":
        markdown = _with_messages(markdown)

    def replaced(link: re.Match[str]) -> str:
        target = link[1]
        if target == "CHANGELOG.md":
            target_page = "changelog.md"
        elif (ROOT / target).is_dir():
            target_page = "examples/index.md"
        else:
            target_page = _page_of(ROOT / target)
        return f"]({posixpath.relpath(target_page, directory or '.')})"

    return _OUTSIDE.sub(replaced, markdown)


def _with_messages(markdown: str) -> str:
    """Add links to the error messages that each check of the doctor explains."""
    text = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    links: dict[str, list[str]] = {}
    for section in re.split(r"(?m)^### ", text)[1:]:
        anchor = re.findall(r'<a id="([\w-]+)">', section)[0]
        for check in sorted(set(re.findall(r"\[(II\d{3})\]", section))):
            links.setdefault(check, []).append(f"[{anchor}](troubleshooting.md#{anchor})")
    for check, found in links.items():
        row = rf"(?m)^(\| <a id=\"{check.lower()}\"></a>.*) \|$"
        markdown = re.sub(row, rf"\1<br>Messages: {', '.join(found)} |", markdown)
    return markdown


def _changelog() -> str:
    return (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").replace("](docs/", "](")


def _page_of(path: Path) -> str:
    return f"{path.relative_to(ROOT).as_posix()}.md"


def _example(path: Path) -> str:
    name = path.relative_to(ROOT / "examples").as_posix()
    text = path.read_text(encoding="utf-8").rstrip()
    return f"# {name}\n\n```{_LANGUAGES[path.suffix]}\n{text}\n```\n"


def _index(examples: list[Path]) -> str:
    lines = [
        f"- [{path.relative_to(ROOT / 'examples').as_posix()}]"
        f"({path.relative_to(ROOT / 'examples').as_posix()}.md){_summary(path)}"
        for path in examples
    ]
    text = "\n".join(lines)
    return f"# Examples\n\nThe project's tests run each program against the emulator.\n\n{text}\n"


def _summary(path: Path) -> str:
    """Return the first line of a program's docstring."""
    if path.suffix != ".py":
        return ""
    return f": {(ast.get_docstring(ast.parse(path.read_bytes())) or '').splitlines()[0]}"
