from __future__ import annotations

import argparse
import inspect
import os
from pathlib import Path
from typing import Any

import pytest

from imds_identity.emulator import Emulator, Machine, load_config
from imds_identity.emulator._cli.flags import arguments
from imds_identity.emulator._cli.options import Row, add_flags, documented, rows

DOCUMENT = Path(__file__).parents[2] / "docs" / "emulator.md"
SAID: dict[str, Any] = {
    "host": "127.0.0.2",
    "admin_host": "127.0.0.3",
    "newest_version": "2021-02-01",
    "profile": "arc",
    "replay": os.devnull,
}
SCALARS = [row for row in rows() if row.option.flag is None and row.flag]


def value_of(row: Row) -> Any:
    """Something that the option may be and is not by default."""
    if row.name in SAID:
        return SAID[row.name]
    if row.choices:
        return row.choices[-1]
    if row.is_switch:
        return not row.default
    return 7 if int in row.kinds else "seven"


@pytest.mark.skipif(not DOCUMENT.is_file(), reason="an installed package has no documents")
def test_the_documentation_lists_every_option_as_it_is() -> None:
    text = DOCUMENT.read_text()
    assert documented(text) == text, (
        "run: python -m imds_identity.emulator._cli.options docs/emulator.md"
    )


def test_every_option_is_a_parameter_of_the_emulator() -> None:
    assert list(inspect.signature(Emulator).parameters) == [row.name for row in rows()]


@pytest.mark.parametrize("row", SCALARS, ids=lambda row: row.name)
def test_an_option_means_the_same_as_a_flag_and_in_the_file(row: Row, tmp_path: Path) -> None:
    value = value_of(row)
    parser = argparse.ArgumentParser()
    add_flags(parser)
    flag = row.flag if value is not False else f"--no-{row.flag.removeprefix('--')}"
    flags = [flag] if row.is_switch else [flag, str(value)]
    assert arguments(parser.parse_args(flags)) == {row.name: value}

    table, _, name = row.key.rpartition(".")
    spelled = str(value).lower() if isinstance(value, bool) else repr(value)
    file = tmp_path / "emulator.toml"
    file.write_text(f"{f'[{table}]' if table else ''}\n{name} = {spelled}\n")
    assert load_config(file, profile="arc") == {"profile": "arc", row.name: value}


def test_help_says_what_the_command_does_by_default() -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    words = " ".join(parser.format_help().split())
    assert "0 is any (default: 16925)" in words
    assert "--limits, --no-limits" in words


def flags(*words: str) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return arguments(parser.parse_args(words))


def test_flags_describe_the_machine() -> None:
    machine = flags("--machine", "name=web,zone=", "--machine", "os_type=Windows")["machine"]
    assert machine == Machine(name="web", zone="", os_type="Windows")
    assert flags("--no-load-balancer")["machine"] == Machine(load_balancer=None)


@pytest.mark.parametrize("text", ["size=7", "tags=a", "environment=Mars", ""])
def test_a_machine_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"machine|environment"):
        flags("--machine", text)
