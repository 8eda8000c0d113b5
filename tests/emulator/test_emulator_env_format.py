"""The environment variables for clients, as --env-format prints them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.support import free_port, run_command
from imds_identity.emulator._cli.print_env import default_state
from imds_identity.emulator._profiles.exports import FORMATS, client_variables, format_variables
from imds_identity.emulator._settings import Profile

if TYPE_CHECKING:
    from emulator.support import Start

VALUES = st.text(st.characters(exclude_categories=["C", "Z"]) | st.just(" "), max_size=20)
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")


def test_json_has_null_for_variables_to_unset(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command("--print-env", "--env-format", "json", "--port", "12345") == 0
    variables = json.loads(capsys.readouterr().out)
    assert variables["AZURE_POD_IDENTITY_AUTHORITY_HOST"] == "http://127.0.0.1:12345"
    assert variables["AZURE_KUBERNETES_TOKEN_PROXY"] is None
    assert variables["CPL_AZURE_VM_API_ROOT_URL"] == "http://127.0.0.1:12345"


def test_format_can_be_set_by_a_variable_and_must_be_known(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMDS_EMULATOR_ENV_FORMAT", "fish")
    assert run_command("--print-env") == 0
    assert "set -gx IMDS_IDENTITY_CACHE 'off'\n" in capsys.readouterr().out
    assert run_command("--print-env", "--env-format", "tcsh") == 2
    assert "sh, fish, powershell, json" in capsys.readouterr().err


def run_shell(command: list[str], lines: list[str]) -> dict[str, str]:
    """Return the environment after a shell has run the lines."""
    show = f"{sys.executable} -c 'import json, os; print(json.dumps(dict(os.environ)))'"
    environment = {"PATH": os.environ["PATH"], "MSI_SECRET": "old", "HOME": os.devnull}
    script = "\n".join([*lines, show])
    done = subprocess.run(
        [*command, script], env=environment, check=True, capture_output=True, text=True
    )
    return dict(json.loads(done.stdout))


@POSIX
@pytest.mark.parametrize(
    ("form", "command"),
    [("sh", ["sh", "-c"]), ("fish", ["fish", "--no-config", "-c"])],
)
def test_shells_set_and_unset_the_variables(form: str, command: list[str]) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    value = "it's \\ \\' $HOME \"quoted\" `x` %"
    lines = format_variables({"MSI_SECRET": None, "ONE": value, "MSI_ENDPOINT": None}, form)
    environment = run_shell(command, lines)
    assert environment["ONE"] == value
    assert "MSI_SECRET" not in environment


@given(VALUES)
@settings(deadline=None)
def test_powershell_strings_end_at_their_own_quote_only(value: str) -> None:
    [line] = format_variables({"ONE": value}, "powershell")
    assert line.startswith("$env:ONE = '")
    inner = line[len("$env:ONE = '") : -1]
    for quote in "'\u2018\u2019\u201a\u201b":
        inner = inner.replace(quote * 2, "")
        assert quote not in inner


def test_every_format_has_every_variable() -> None:
    variables = client_variables({"A": "1"}, "http://x", ("https://y", "ca.pem"))
    for form in FORMATS:
        text = "\n".join(format_variables(variables, form))
        assert all(name in text for name in variables)


@pytest.mark.parametrize("profile", get_args(Profile))
def test_printed_variables_are_those_of_the_emulator(
    capsys: pytest.CaptureFixture[str], start_emulator: Start, tmp_path: Path, profile: str
) -> None:
    ports = (free_port(), free_port())
    flags = ("--profile", profile, "--port", str(ports[0]), "--key-vault-port", str(ports[1]))
    assert run_command("--print-env", "--env-format", "json", *flags) == 0
    captured = capsys.readouterr()
    printed = json.loads(captured.out)
    assert captured.err == ""
    ca_file = Path(printed["IMDS_EMULATOR_KEY_VAULT_CA_FILE"])
    assert "BEGIN CERTIFICATE" in ca_file.read_text()  # also before the start
    emulator = start_emulator(
        profile, state=ca_file.parent, port=ports[0], key_vault=True, key_vault_port=ports[1]
    )
    environment = emulator.environment()
    assert {name: printed[name] for name in environment} == environment
    assert printed["IMDS_EMULATOR_KEY_VAULT_URL"] == emulator.key_vault.url
    assert str(ca_file) == emulator.key_vault.ca_file
    with requests.Session() as session:
        session.trust_env = False
        response = session.get(emulator.key_vault.url, verify=str(ca_file), timeout=10)
    assert response.status_code == 404


@pytest.mark.usefixtures("no_default_state")
def test_note_explains_why_the_certificate_of_the_vault_is_missing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run_command("--print-env") == 0
    captured = capsys.readouterr()
    assert "VAULT_CA_FILE" not in captured.out
    assert "--state" in captured.err
    assert run_command("--print-env", "--state", str(tmp_path)) == 0
    captured = capsys.readouterr()
    assert "IMDS_EMULATOR_KEY_VAULT_CA_FILE" in captured.out
    assert captured.err == ""
    assert run_command("--print-env", "--profile", "workload-identity") == 2
    assert "--state" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes")
def test_default_state_is_private_to_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    directory = default_state(16925)
    assert directory == tmp_path / ".local" / "state" / "imds-identity" / "emulator-16925"
    assert directory.stat().st_mode & 0o777 == 0o700
    assert default_state(0) is None
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    assert default_state(16925) is None
