from __future__ import annotations

import argparse
import inspect
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from imds_identity.emulator import Emulator, Machine, load_config
from imds_identity.emulator._cli.flag_parsing import emulator_arguments
from imds_identity.emulator._cli.options import OptionInfo, add_flags, all_options, update_table

DOCUMENT = Path(__file__).parents[2] / "docs" / "emulator.md"
VALUES: dict[str, Any] = {
    "host": "127.0.0.2",
    "admin_host": "127.0.0.3",
    "newest_version": "2021-02-01",
    "profile": "arc",
    "replay": os.devnull,
}
if sys.platform != "win32":
    import grp

    VALUES["tokens_group"] = grp.getgrgid(os.getgid()).gr_name
SCALARS = [option for option in all_options() if option.spec.flag is None and option.flag]


def value_of(option: OptionInfo) -> Any:
    """Return a valid value of an option that is not its default."""
    if option.name in VALUES:
        return VALUES[option.name]
    if option.choices:
        return option.choices[-1]
    if option.is_switch:
        return not option.default
    return 7 if int in option.types else "seven"


@pytest.mark.skipif(not DOCUMENT.is_file(), reason="an installed package has no documents")
def test_table_of_options_in_the_documentation_is_current() -> None:
    text = DOCUMENT.read_text()
    assert update_table(text) == text, (
        "run: python -m imds_identity.emulator._cli.options docs/emulator.md"
    )


def test_every_option_is_a_parameter_of_the_emulator() -> None:
    assert list(inspect.signature(Emulator).parameters) == [option.name for option in all_options()]


@pytest.mark.parametrize("option", SCALARS, ids=lambda option: option.name)
def test_option_has_the_same_meaning_as_a_flag_and_in_the_file(
    option: OptionInfo, tmp_path: Path
) -> None:
    if option.name == "tokens_group" and sys.platform == "win32":
        pytest.skip("Windows has no such groups")
    value = value_of(option)
    parser = argparse.ArgumentParser()
    add_flags(parser)
    flag = option.flag if value is not False else f"--no-{option.flag.removeprefix('--')}"
    flags = [flag] if option.is_switch else [flag, str(value)]
    assert emulator_arguments(parser.parse_args(flags)) == {option.name: value}

    table, _, name = option.key.rpartition(".")
    spelled = str(value).lower() if isinstance(value, bool) else repr(value)
    file = tmp_path / "emulator.toml"
    file.write_text(f"{f'[{table}]' if table else ''}\n{name} = {spelled}\n")
    assert load_config(file) == {option.name: value}


def test_help_has_the_command_defaults() -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    text = " ".join(parser.format_help().split())
    assert "0 for any (default: 16925)" in text
    assert "--limits, --no-limits" in text


def parse(*flags: str) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return emulator_arguments(parser.parse_args(flags))


def test_flags_set_attributes_of_the_machine() -> None:
    machine = parse("--machine", "name=web,zone=", "--machine", "os_type=Windows")["machine"]
    assert machine == Machine(name="web", zone="", os_type="Windows")
    assert parse("--no-load-balancer")["machine"] == Machine(load_balancer=None)


@pytest.mark.parametrize("text", ["size=7", "tags=a", "environment=Mars", ""])
def test_invalid_machine_flag_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match=r"machine|environment"):
        parse("--machine", text)
