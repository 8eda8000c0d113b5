"""``imds-identity manual`` and ``--help``, as man and people read them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import Any

import pytest

from imds_identity import cli

FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


@pytest.fixture
def page(ran: Any) -> str:
    status, out, err = ran("manual")
    assert (status, err) == (0, "")
    return str(out)


def read(page: str, *command: str) -> subprocess.CompletedProcess[str]:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    environment = {
        "PATH": os.environ["PATH"],
        "LC_ALL": "C.UTF-8",
        "MANWIDTH": "78",
        "TERM": "dumb",
    }
    return subprocess.run(
        command, input=page, capture_output=True, text=True, env=environment, check=False
    )


@pytest.mark.parametrize("name", list(cli._COMMANDS))
def test_it_has_each_command_and_flag(page: str, ran: Any, name: str) -> None:
    _, help_text, _ = ran(name, "--help")
    section = page.partition(f"\n.SS imds-identity {name}\n")[2].partition("\n.SS ")[0]
    told = set(FLAG.findall(section.replace("\\-", "-")))
    assert section
    assert set(FLAG.findall(help_text)) - told <= {"--help"}


def test_no_line_of_text_is_a_command_to_man(page: str) -> None:
    lines = [line for line in page.splitlines() if line.startswith((".", "'"))]
    assert {line.split()[0] for line in lines} == {
        ".TH", ".SH", ".SS", ".B", ".I", ".TP", ".PP", ".nf", ".fi",
    }  # fmt: skip


def test_man_shows_it(page: str) -> None:
    done = read(page, "man", "--warnings", "-l", "-")
    assert (done.returncode, done.stderr) == (0, "")
    assert "imds-identity token" in done.stdout


def test_mandoc_finds_nothing_wrong_with_it(page: str) -> None:
    done = read(page, "mandoc", "-T", "lint", "-W", "warning")
    found = [line for line in done.stdout.splitlines() if "missing date" not in line]
    assert found == []


def test_help_has_each_command_beside_what_it_does(ran: Any) -> None:
    _, help_text, _ = ran("--help")
    lines = help_text.splitlines()
    for name, command in cli._COMMANDS.items():
        [line] = [each for each in lines if each.split()[:1] == [name]]
        assert line.endswith(f" {command.help}")


@pytest.mark.parametrize("name", list(cli._COMMANDS))
def test_help_cuts_no_flag_or_url_at_a_hyphen(ran: Any, name: str) -> None:
    _, help_text, _ = ran(name, "--help")
    assert not re.findall(r"\w-$", help_text, re.MULTILINE)
