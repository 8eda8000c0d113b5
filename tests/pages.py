"""Runs what a page of the documentation shows, one block after the other, as a reader would.

A block with a title is a file of that name, or a command in a terminal of its own, which runs until
the page ends. What a console block shows after a command is compared with what comes; … stands for
anything.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from documents import Block, blocks
from fake_azure import FakeAzure

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

TERMINAL = "in a terminal of its own"
PORTS = (16925, 16926, 16927)
STAND_INS = ("app", "terraform")


def run_page(page: str, folder: Path) -> None:
    """Run all blocks of a page but those that say why not.

    Args:
        page: its path below the project's root.
        folder: an empty directory.
    """
    if page in NEEDS and not shutil.which(NEEDS[page]):
        pytest.skip(f"there is no {NEEDS[page]}")
    with contextlib.ExitStack() as stack:
        world = stack.enter_context(FakeAzure(folder, *STAND_INS))
        reader = Reader(world, folder, stack)
        for block in blocks(page):
            if not block.why_not:
                reader.take(block)
                assert world.sites.refused == [], block


class Reader:
    """Does what a page says.

    Args:
        world: where commands run.
        folder: its directory.
        stack: ends what was started.
    """

    def __init__(self, world: FakeAzure, folder: Path, stack: contextlib.ExitStack) -> None:
        self.world = world
        self._folder = folder
        self._stack = stack

    def take(self, block: Block) -> None:
        """Run one block, or write the file that it is."""
        text = block.text
        for usual in PORTS:
            text = text.replace(str(usual), str(self.world.port_base + usual - PORTS[0]))
        block = block._replace(text=text)
        if block.title == TERMINAL:
            self._start(block)
        elif block.title:
            file = self._folder / block.title
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        elif block.language in RUNNERS:
            RUNNERS[block.language](self, block)

    def run(self, block: Block, *command: str) -> None:
        """Run a program, which must succeed."""
        _check(block, self.world.run(*command))

    def shell(self, block: Block) -> None:
        """Run the commands of a block."""
        _check(block, self.world.shell(block.text))

    def console(self, block: Block) -> None:
        """Run commands, and compare what each prints with what the block shows."""
        for command, shown in _typed(block.text):
            done = self.world.shell(command)
            came = done.stderr + done.stdout
            if shown:
                pattern = re.escape(shown.rstrip("\n")).replace("…", ".*")
                assert re.fullmatch(pattern, came.rstrip("\n"), re.DOTALL), (
                    f"{block}: {command}\n{came}"
                )
            else:
                _check(block, done)

    def python(self, block: Block) -> None:
        """Run a program, or the tests in it."""
        tests = "def test_" in block.text
        file = self._folder / ("test_block.py" if tests else "block.py")
        file.write_text(block.text, encoding="utf-8")
        runner = ("-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={self._folder}")
        self.run(block, sys.executable, *(runner if tests else ()), file.name)

    def diff(self, block: Block) -> None:
        """Run a program before a change and after it."""
        for version, other in (("-", "+"), ("+", "-")):
            lines = [line for line in block.text.splitlines() if not line.startswith(other)]
            text = "\n".join(re.sub(f"^[{version} ]", "", line) for line in lines)
            self.python(block._replace(text=text))

    def toml(self, block: Block) -> None:
        """Have the emulator read its options."""
        (self._folder / "emulator.toml").write_text(block.text)
        command = "imds-identity emulator --config emulator.toml --print-env"
        _check(block, self.world.shell(command))

    def _start(self, block: Block) -> None:
        """Start what runs beside the rest of the page; it has a line to say when it serves."""
        command = re.sub("^imds-identity", f"exec {sys.executable} -m imds_identity", block.text)
        started = self.world.start("sh", "-c", command)
        self._stack.callback(_end, started)
        assert started.stdout is not None
        assert started.stdout.readline(), block


RUNNERS: dict[str, Callable[[Reader, Block], None]] = {
    "console": Reader.console,
    "diff": Reader.diff,
    "python": Reader.python,
    "sh": Reader.shell,
    "toml": Reader.toml,
}
NEEDS = {"docs/how-to/kubectl.md": "kubectl"}  # no package of Python's has it


def _check(block: Block, done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"


def _typed(text: str) -> Iterator[tuple[str, str]]:
    """Each command of a console block, and what is shown after it."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        yield command, shown


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    process.communicate(timeout=30)
