"""The command-line reference of the documentation is complete."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from imds_identity.cli import COMMANDS

SCRIPT = Path(__file__).parents[2] / "docs/command_line.py"


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("command_line", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_a_section_with_all_its_flags(script: Any, name: str) -> None:
    section = script.reference().partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    assert f"imds-identity {name}" in section
    for action in script.parser_of(name)._actions:
        if action.help != argparse.SUPPRESS and action.dest != "help":
            flags = script.flags_of(action)
            description = section.partition(f"`{flags}`\n:   ")[2].split("\n")[0]
            assert description.strip(), action


def test_reference_does_not_depend_on_the_terminal(script: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    wide = script.reference()
    monkeypatch.setenv("COLUMNS", "40")
    assert script.reference() == wide
    assert str(sys.executable) not in wide
