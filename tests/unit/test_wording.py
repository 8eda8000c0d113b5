"""Expressions that do not appear in code or documentation, because readers stumble over them."""

from __future__ import annotations

import re
from bisect import bisect_right
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import pytest

from markdown_blocks import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# "Users who read logs" is fine; "to who asks" is not.
NAMED = ("anyone", "attacker", "caller", "clients", "reader", "user", "users")
NAMED_BEFORE = "".join(f"(?<!{noun} )" for noun in NAMED)
VERBS = (
    "answers?|asked|asks?|calls?|comes?|drives?|has|have|holds?|knows?|listens?|looks?|makes?|"
    "needs?|reads?|sends?|waits?|wants?|writes?"
)
BRITISH = (
    r"behaviour|(?<![.\w])cancelled(?![\w(])|catalogue\b|centre\b|colour|favour|\bgrey\b|honour|"
    r"initialis|licence\b|misspelt|neighbour|organis|recognis|serialis"
)


class Idiom(NamedTuple):
    """An expression to avoid: its pattern, what to write instead, and an example."""

    pattern: str
    instead: str
    example: str


IDIOMS = (
    Idiom(r"\bmend(s|ed|ing)?\b", "fix", "what mends it"),
    Idiom(r"\b(be|been|is|are|was|were) had\b", "is acquired, is available", "no token is had"),
    Idiom(r"\bto be had\b", "is available", "if there is none to be had"),
    Idiom(r"\b(anew|once more)\b", "again", "read anew"),
    Idiom(
        r"\b(who|whom|whose|what)(so)?ever (?!an? |the |its |their |it )",
        "the caller, any",
        "whoever waits",
    ),
    Idiom(rf"{NAMED_BEFORE}\bwho ({VERBS})\b", "the caller, the client, the server", "to who asks"),
    Idiom(r"\b(all|those|ones?) who\b", "all callers, waiting threads", "those who wait"),
    Idiom(r"\b(what|which) (answers?|asks?|waits|listens)\b", "the server", "what answers"),
    Idiom(
        r"\bwhat (others|another process|processes share|came|comes|becomes)\b|"
        r"\bwhat (is|was) (said|asked)\b",
        "name it",
        "what others share",
    ),
    Idiom(
        r"(?<!there )\b(is|are|was|were) no (?!longer|more|less|fewer|later|other|such)[a-z]",
        "is not a",
        "an answer that is no JSON",
    ),
    Idiom(
        r"(?<!there )\b(is|are|was|were) (?-i:none)\b(?! of)",
        "there is none, is not one",
        "if it is none",
    ),
    Idiom(
        r"\b(is|are|was|were|be|been|being) told\b",
        "is logged, is reported, gets",
        "a hook is told",
    ),
    Idiom(
        r"(?<!\.)\btells?\b(?!\(| (apart|the difference|you|us)\b)",
        "returns, shows, reports",
        "it tells the time",
    ),
    Idiom(
        r"\b(any|some|no|every)body\b",
        "another user, no process, all callers",
        "nobody waits",
    ),
    Idiom(r"\blikewise\b", "the same, also", "likewise"),
    Idiom(r"\bbeside\b", "next to, in addition to, in the background", "beside the loop"),
    Idiom(r"\b(for ever|in vain|thereupon|at hand|lent|ill)\b", "plain words", "waits for ever"),
    Idiom(
        r"\b(as good as|of itself|and the like|sits? out)\b",
        "plain words",
        "as good as new",
    ),
    Idiom(r"\b(giv(e|es|en|ing)|gave) way\b", "be unavailable", "a source that gives way"),
    Idiom(r"\bpart(s|ed|ing)? with\b", "drop", "the cache parts with it"),
    Idiom(
        r"\b(asks?|asked|wants?|told) (for|to) rest\b",
        "back off, Retry-After",
        "it asked for rest",
    ),
    Idiom(r"\bgo(es)? without\b", "do not share, skip", "or go without"),
    Idiom(r"\b(hears?|heard) (of|nothing)\b", "receives, sees", "who heard of it"),
    Idiom(r"\b(neighbou?rs?|cellar|strangers?)\b", "another user, layer", "a neighbour"),
    Idiom(r"(?<!math\.)\b(floors?|rooms?|the house)\b", "layer, module", "the floor below"),
    Idiom(r"\b(heeds?|heeded)\b", "follow, honor", "nobody heeds it"),
    Idiom(r"\b(our own|of ours|of one's own|person's|quarrels?)\b", "name it", "a lock of ours"),
    Idiom(
        r"\b(the|a) (service|server|agent) (says|said|tells|told|asks|wants)\b",
        "returned",
        "the service says",
    ),
    Idiom(r"\bmust not be (so|it)\b", "name it", "which must not be so"),
    Idiom(r"\balso (if|when|where|though)\b", "even if", "within seconds also if it hangs"),
    Idiom(
        r"\bso many (bytes|files|seconds|times)\b", "this many", "has waited for so many seconds"
    ),
    Idiom(
        r"\b(age|files|seconds|use) from which\b",
        "after which",
        "seconds from which an entry may be dropped",
    ),
    Idiom(r"\b(left|leav(e|es|ing)) alone\b", "skip, do not use", "the directory is left alone"),
    Idiom(r"\b(several ones|the own|in two)\b", "name it", "a process in several ones"),
    Idiom(
        r"\b((the|an|one|every) engine|faces?|manner|errands?|patience)\b",
        "token cache, adapter, options",
        "the engine",
    ),
    Idiom(r"\bon the way\b", "in transit", "changes a document on the way"),
    Idiom(r"\bleads? (it |them )?elsewhere\b", "refers to another host", "a link leads elsewhere"),
    Idiom(BRITISH, "American spelling", "the colour"),
    Idiom(
        r"(?-i:\b(AllOverdue|Absences|Announcement|Broker|Complaint|Judged|Landing|Manner|NotOffered|"
        r"Pace|Patience|Standing|Unreached)(Error)?\b)",
        "the current name of the class",
        "the Broker",
    ),
)
PATTERNS = [(re.compile(idiom.pattern, re.IGNORECASE), idiom.instead) for idiom in IDIOMS]

# A file (or directory) and the words that it may contain, because of the reason.
EXCEPTIONS: tuple[tuple[str, str, str], ...] = (
    ("docs/doctor.md", "nobody", "the name of a system user"),
    ("src/imds_identity/cli/_api/operation.py", "cancelled", "a status that Azure sends"),
)

TEXT = {".css", ".html", ".js", ".md", ".py", ".service", ".socket", ".svg", ".yaml", ".yml"}
FILES = sorted(
    {
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
        *(ROOT / name for name in ("Makefile", "mkdocs.yml", "pyproject.toml", "hatch_build.py")),
        *(
            path
            for path in chain.from_iterable(
                (ROOT / directory).rglob("*") for directory in ("src", "docs", "examples")
            )
            if path.suffix in TEXT and not path.name.startswith("fleet-")
        ),
    }
)


class Words:
    """A text in one line without quotes and comment signs at the ends of lines.

    An expression is found although a line of a string or a comment ends in the middle of it.
    """

    def __init__(self, text: str) -> None:
        parts: list[str] = []
        self._starts: list[int] = []
        length = 0
        for line in text.splitlines():
            words = re.sub(r"^\s*(?:#+ |f?[\"'])?|\s*[\"']?\s*$", "", line)
            self._starts.append(length)
            parts.append(words)
            length += len(words) + 1
        self._text = " ".join(parts)

    def found(self) -> Iterator[tuple[int, str, str]]:
        """Yield the line number, the expression and its replacement for each idiom."""
        for pattern, instead in PATTERNS:
            for match in pattern.finditer(self._text):
                yield bisect_right(self._starts, match.start()), match[0], instead


def is_exception(path: Path, expression: str) -> bool:
    name = path.relative_to(ROOT).as_posix()
    return any(name.startswith(file) and words in expression for file, words, _ in EXCEPTIONS)


def test_files_contain_no_idiom() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {expression!r}; write: {instead}"
        for path in FILES
        for line, expression, instead in sorted(Words(path.read_text(encoding="utf-8")).found())
        if not is_exception(path, expression)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("idiom", IDIOMS, ids=lambda idiom: idiom.example)
def test_pattern_matches_its_example(idiom: Idiom) -> None:
    assert re.search(idiom.pattern, idiom.example, re.IGNORECASE)
    assert idiom.instead in [instead for _, _, instead in Words(f"# {idiom.example}").found()]


@pytest.mark.parametrize(
    "text",
    [
        "There is no token.",
        "It is no longer valid.",
        "users who read logs",
        "whatever its user",
        "math.floor(seconds)",
        "besides",
        "tells the difference",
    ],
)
def test_plain_sentence_is_accepted(text: str) -> None:
    assert list(Words(text).found()) == []


def test_expression_across_lines_is_found_on_its_first_line() -> None:
    text = 'raise ValueError(\n    "the answer to who "\n    "asks"\n)'
    assert [line for line, _, _ in Words(text).found()] == [2]


def test_every_exception_is_needed() -> None:
    for file, words, _ in EXCEPTIONS:
        assert words in (ROOT / file).read_text(encoding="utf-8"), (file, words)
