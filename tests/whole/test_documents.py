"""What a page shows is run as it is written there, in a world where Azure is this machine."""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from documents import ROOT, Block, blocks
from imds_identity.cli import _parser
from pretend_azure import PretendAzure

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

PAGES = ("README.md", "docs/cache.md", "docs/chains.md", "docs/errors.md")
SHOWN = {"text", "mermaid", "json", "http"}  # nothing that a reader would run
STAND_INS = ("app", "terraform")


@pytest.mark.skipif(not shutil.which("sh"), reason="there is no sh")
@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_run_one_after_the_other(page: str, tmp_path: Path) -> None:
    with PretendAzure(tmp_path, *STAND_INS) as world:
        for block in blocks(page, *RUNNERS):
            if not block.why_not:
                done = RUNNERS[block.language](world, block, tmp_path)
                assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
                assert world.refused == [], block


def python(world: PretendAzure, block: Block, folder: Path) -> subprocess.CompletedProcess[str]:
    file = folder / ("test_block.py" if "def test_" in block.text else "block.py")
    file.write_text(block.text)
    if file.name == "block.py":
        return world.run(sys.executable, file.name)
    return world.run(
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={folder}",
        file.name,
    )  # fmt: skip


def shell(world: PretendAzure, block: Block, _: Path) -> subprocess.CompletedProcess[str]:
    return world.shell(block.commands if block.language == "console" else block.text)


def both_versions(
    world: PretendAzure, block: Block, folder: Path
) -> subprocess.CompletedProcess[str]:
    """A change of a program, which runs before it and after it."""
    for version, others in (("-", "+"), ("+", "-")):
        lines = [line for line in block.text.splitlines() if not line.startswith(others)]
        text = "\n".join(re.sub(f"^[{version} ]", "", line) for line in lines)
        done = python(world, block._replace(text=text), folder)
        if done.returncode:
            break
    return done


def emulator_options(
    world: PretendAzure, block: Block, folder: Path
) -> subprocess.CompletedProcess[str]:
    (folder / "emulator.toml").write_text(block.text)
    return world.shell("imds-identity emulator --config emulator.toml --print-env")


RUNNERS: dict[str, Callable[[PretendAzure, Block, Path], subprocess.CompletedProcess[str]]] = {
    "console": shell,
    "diff": both_versions,
    "python": python,
    "sh": shell,
    "toml": emulator_options,
}


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_what_it_is(page: str) -> None:
    unknown = [block for block in blocks(page) if block.language not in {*RUNNERS, *SHOWN}]
    assert [str(block) for block in unknown] == []
    indented = re.findall(r"^\n(?: {4}|\t)\S.*", (ROOT / page).read_text(), re.MULTILINE)
    assert indented == [], "an indented block has no language; use a fence"


@pytest.mark.parametrize("page", PAGES)
def test_what_is_not_run_has_flags_that_are_understood(page: str) -> None:
    for block in blocks(page, "console", "sh"):
        commands = block.commands if block.language == "console" else block.text
        for line in re.findall(r"(?m)^imds-identity .*", commands if block.why_not else ""):
            given = shlex.split(line.partition(" | ")[0], comments=True)[1:]
            _parser(given).parse_args(given)


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

    with PretendAzure(tmp_path) as world:
        world.on_request = look
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
    written = (ROOT / page).read_text()
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)|(?:src|srcset)=\"([^\"]+)\"", written)
    local = [a or b for a, b in targets if "://" not in (a or b)]
    assert [path for path in local if not (ROOT / page).parent.joinpath(path).exists()] == []
