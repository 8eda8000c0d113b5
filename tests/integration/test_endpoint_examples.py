"""The endpoint's examples use valid flags, and its page documents all flags."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import pytest

from imds_identity.cli.exec import add_arguments as exec_arguments
from imds_identity.cli.serve import add_arguments as serve_arguments

ROOT = Path(__file__).parents[2]
FILES = [
    "examples/systemd/imds-identity.service",
    "examples/arc_container/imds-identity-containers.service",
    "docs/endpoint.md",
    "docs/how-to/arc-containers.md",
]


@pytest.mark.parametrize("name", FILES)
def test_flags_of_examples_are_valid(name: str) -> None:
    lines = re.findall(
        r"\bimds-identity ((?:serve|exec) -.*)", (ROOT / name).read_text().replace("\\\n", "")
    )
    assert lines
    for line in lines:
        command, *flags = shlex.split(line.split("`")[0].replace("…", "x"))
        parser = argparse.ArgumentParser(allow_abbrev=False)
        (serve_arguments if command == "serve" else exec_arguments)(parser)
        parser.parse_args(flags)


def test_no_example_lets_another_user_receive_the_secret() -> None:
    examples = [path for path in ROOT.glob("examples/**/*.*") if path.suffix != ".pyc"]
    for path in [*examples, *ROOT.glob("docs/**/*.md"), ROOT / "README.md"]:
        text = path.read_text().replace("\\\n", "") if path.is_file() else ""
        for line in re.findall(r"\bimds-identity serve -.*", text):
            assert "--secret-file" not in line or "--port" not in line, path


def test_every_flag_of_serve_is_documented() -> None:
    parser = argparse.ArgumentParser()
    serve_arguments(parser)
    documented = (ROOT / "docs/endpoint.md").read_text()
    elsewhere = {"--help", "--arc-tokens-directory", "--cache", "--verbose"}
    flags = {a.option_strings[0] for a in parser._actions if a.option_strings}
    flags = {flag for flag in flags if flag.startswith("--")} - elsewhere
    assert {flag for flag in flags if flag not in documented} == set()
