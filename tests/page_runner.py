"""Runs the code blocks of a documentation page in order, as a reader would.

A block with a title is a file of that name, or a command in a second terminal that runs until the
end of the page. The output in a console block must match the real output; … matches any text.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from fake_azure import FakeAzure
from markdown_blocks import Block, blocks

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

SECOND_TERMINAL = "in a separate terminal"
PORTS = (16925, 16926, 16927)
FAKE_PROGRAMS = ("app", "terraform")


def run_page(page: str, folder: Path, *, interop: bool = False) -> None:
    """Run all blocks of a page except those marked "not run".

    Args:
        page: its path relative to the repository.
        folder: an empty directory.
        interop: whether to run the blocks that only `make interop` runs, too.
    """
    if page in REQUIRED_PROGRAMS and not shutil.which(REQUIRED_PROGRAMS[page]):
        pytest.skip(f"{REQUIRED_PROGRAMS[page]} is not installed")
    with contextlib.ExitStack() as stack:
        azure = stack.enter_context(FakeAzure(folder, *FAKE_PROGRAMS))
        reader = Reader(azure, folder, stack)
        _fake_environment(folder)
        for block in blocks(page):
            reason = block.skip_reason or ""
            if not reason or (interop and reason.startswith("make interop runs it")):
                reader.follow(block)
                assert azure.sites.unauthorized == [], block


class Reader:
    """Follows the instructions of a page.

    Args:
        azure: runs the commands.
        folder: the working directory of the commands.
        stack: stops background commands when it closes.
    """

    def __init__(self, azure: FakeAzure, folder: Path, stack: contextlib.ExitStack) -> None:
        self.azure = azure
        self._folder = folder
        self._stack = stack

    def follow(self, block: Block) -> None:
        """Run a block, or write its file."""
        text = block.text
        for port in PORTS:
            text = text.replace(str(port), str(self.azure.port_base + port - PORTS[0]))
        block = block._replace(text=text)
        if block.title == SECOND_TERMINAL:
            self._start(block)
        elif block.title:
            file = self._folder / block.title
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        elif block.language in RUNNERS:
            RUNNERS[block.language](self, block)

    def run(self, block: Block, *command: str) -> None:
        """Run a program, which must succeed."""
        _check(block, self.azure.run(*command))

    def shell(self, block: Block) -> None:
        """Run the commands of a block."""
        _check(block, self.azure.shell(block.text))

    def console(self, block: Block) -> None:
        """Run commands, and compare the output of each with the block."""
        for command, expected in _commands(block.text):
            done = self.azure.shell(command)
            output = done.stderr + done.stdout
            if expected:
                pattern = re.escape(expected.rstrip("\n")).replace("…", ".*")
                assert re.fullmatch(pattern, output.rstrip("\n"), re.DOTALL), (
                    f"{block}: {command}\n{output}"
                )
            else:
                _check(block, done)

    def python(self, block: Block) -> None:
        """Run a Python program, or its tests with pytest."""
        tests = "def test_" in block.text
        file = self._folder / ("test_block.py" if tests else "block.py")
        file.write_text(block.text, encoding="utf-8")
        runner = ("-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={self._folder}")
        self.run(block, sys.executable, *(runner if tests else ()), file.name)

    def diff(self, block: Block) -> None:
        """Run a Python program before and after the change."""
        for version, other in (("-", "+"), ("+", "-")):
            lines = [line for line in block.text.splitlines() if not line.startswith(other)]
            text = "\n".join(re.sub(f"^[{version} ]", "", line) for line in lines)
            self.python(block._replace(text=text))

    def toml(self, block: Block) -> None:
        """Let the emulator read the configuration."""
        (self._folder / "emulator.toml").write_text(block.text)
        command = "imds-identity emulator --config emulator.toml --print-env"
        _check(block, self.azure.shell(command))

    def _start(self, block: Block) -> None:
        """Start a background command, and wait for its first line of output."""
        replacement = f"exec {sys.executable} -m imds_identity"
        command = re.sub("(?m)^imds-identity", replacement, block.text)
        process = self.azure.start("sh", "-c", command)
        self._stack.callback(_terminate, process)
        assert process.stdout is not None
        assert process.stdout.readline(), block


RUNNERS: dict[str, Callable[[Reader, Block], None]] = {
    "console": Reader.console,
    "diff": Reader.diff,
    "python": Reader.python,
    "sh": Reader.shell,
    "toml": Reader.toml,
}
REQUIRED_PROGRAMS = {"docs/how-to/kubectl.md": "kubectl"}  # cannot be installed with pip


def _fake_environment(folder: Path) -> None:
    """Let readers activate an environment in the directory of the tutorial: the tests' own."""
    activate = folder / ".venv/bin/activate"
    activate.parent.mkdir(parents=True)
    activate.touch()
    (folder / "tutorial").symlink_to(folder)


def _check(block: Block, done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"


def _commands(text: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a console block and its output."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def _terminate(process: subprocess.Popen[str]) -> None:
    process.terminate()
    process.communicate(timeout=30)
