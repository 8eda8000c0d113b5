"""What a page shows is run as it is written there, in a world where Azure is this machine."""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from documents import ROOT, blocks
from fake_azure import FakeAzure
from imds_identity.cli import build_parser
from pages import RUNNERS, run_page

if TYPE_CHECKING:
    from collections.abc import Iterator

GENERATED = {"reference/command-line.md"}  # pages that only the site has
OF_OTHERS = {"docs/how-to/openai.md"}  # `make interop` has what they need
PAGES = sorted(
    {"README.md", *(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))}
    - OF_OTHERS
)
SHOWN = {"text", "mermaid", "json", "http", "yaml"}  # nothing that a reader would run


# README's each time; the others take as long as half of all other tests.
RUN = [
    page if page == "README.md" else pytest.param(page, marks=pytest.mark.docs) for page in PAGES
]


@pytest.mark.skipif(not shutil.which("sh"), reason="there is no sh")
@pytest.mark.parametrize("page", RUN)
def test_the_blocks_of_a_page_run_one_after_the_other(page: str, tmp_path: Path) -> None:
    run_page(page, tmp_path)


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_what_it_is(page: str) -> None:
    unknown = [block for block in blocks(page) if block.language not in {*RUNNERS, *SHOWN}]
    assert [str(block) for block in unknown] == []
    text = re.sub(r"(?ms)^ *```.*?^ *```$", "", (ROOT / page).read_text(encoding="utf-8"))
    indented = re.findall(r"^\n(?: {4}|\t)\S.*", text, re.MULTILINE)
    assert indented == [], "an indented block has no language; use a fence"


@pytest.mark.parametrize("page", PAGES)
def test_what_is_not_run_has_flags_that_are_understood(page: str) -> None:
    for block in blocks(page, "console", "sh"):
        commands = block.commands if block.language == "console" else block.text
        commands = commands.replace("\\\n", " ")
        for line in re.findall(r"(?m)^imds-identity .*", commands if block.why_not else ""):
            given = shlex.split(line.partition(" | ")[0], comments=True)[1:]
            build_parser(given).parse_args(given)


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="there is no /proc")
@pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl")
def test_a_token_that_goes_to_curl_is_on_no_command_line_and_in_no_environment(
    tmp_path: Path,
) -> None:
    shown = "".join(block.text for block in blocks("README.md", "sh"))
    commands = re.findall(r"imds-identity token .*\|\s+curl .*", shown)
    seen: list[tuple[bool, bool]] = []

    def look(token: str) -> None:
        shown = list(_shown_by_the_system())
        curl_waits = any(words.startswith(b"curl\0-H\0@-\0") for words in shown)
        seen.append((curl_waits, any(token.encode() in words for words in shown)))

    with FakeAzure(tmp_path) as world:
        world.sites.on_request = look
        done = world.shell(*commands)
    assert '"displayName": "Production"' in done.stdout, done.stderr
    assert seen == [(True, False)]


def _shown_by_the_system() -> Iterator[bytes]:
    for kind in ("cmdline", "environ"):
        for file in Path("/proc").glob(f"[0-9]*/{kind}"):
            with contextlib.suppress(OSError):
                yield file.read_bytes()


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_links_to_is_there(page: str) -> None:
    written = (ROOT / page).read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)|(?:src|srcset)=\"([^\"]+)\"", written)
    local = {a or b for a, b in targets if "://" not in (a or b)} - GENERATED
    assert [path for path in local if not (ROOT / page).parent.joinpath(path).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_configurations_have_flags_that_are_understood(page: str) -> None:
    for block in blocks(page, "yaml"):
        for line in re.findall(
            r"(?<![\w\[/-])imds-identity ([a-z].*?)(?: [|>&]|[)\"']|$)", block.text, re.MULTILINE
        ):
            given = shlex.split(line)
            build_parser(given).parse_args(given)
