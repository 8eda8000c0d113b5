"""Pages of the site that are made of other files, as a hook of MkDocs.

The reference of the command line comes from its parsers, a page for each example from its source,
the changelog from the file beside README. Links to these files work on a forge, and are led to the
pages.
"""

from __future__ import annotations

import ast
import posixpath
import re
from pathlib import Path
from typing import Any

from command_line import reference  # MkDocs looks beside a hook while it loads it
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]

_LANGUAGES = {".py": "python", ".yaml": "yaml", ".service": "ini", ".socket": "ini"}
_OUTSIDE = re.compile(r"\]\((?:\.\./)+(examples(?:/[^)#\s]*)?|CHANGELOG\.md)\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages; MkDocs calls this."""
    examples = sorted(path for path in (ROOT / "examples").rglob("*") if path.suffix in _LANGUAGES)
    pages = {
        "reference/command-line.md": reference(),
        "changelog.md": (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
        "examples/index.md": _index(examples),
        **{_page_of(path): _example(path) for path in examples},
    }
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead links to files outside docs/ to their pages; MkDocs calls this."""
    here = posixpath.dirname(page.file.src_uri)

    def led(link: re.Match[str]) -> str:
        target = link[1]
        if target == "CHANGELOG.md":
            place = "changelog.md"
        elif (ROOT / target).is_dir():
            place = "examples/index.md"
        else:
            place = _page_of(ROOT / target)
        return f"]({posixpath.relpath(place, here or '.')})"

    return _OUTSIDE.sub(led, markdown)


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
    """The first line of a program's docstring."""
    if path.suffix != ".py":
        return ""
    return f": {(ast.get_docstring(ast.parse(path.read_bytes())) or '').splitlines()[0]}"
