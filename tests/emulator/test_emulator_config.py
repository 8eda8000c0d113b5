from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.support import run_command
from imds_identity.emulator import ConfigError, Emulator, load_config

if TYPE_CHECKING:
    from pathlib import Path

    from emulator.support import Send

COMPLETE = """\
profile = "arc"
token_lifetime = 3600
limits = true
events_speed = 60

[machine]
name = "server-1"
location = "northeurope"

[machine.tags]
role = "test"

[[identity]]
kind = "system-assigned"

[[identity]]
name = "one"

[[identity]]
client_id = "c"
object_id = "o"
resource_id = "r"

[key_vault]
port = 0
secrets = { greeting = "hi" }

[[fault]]
status = 429
retry_after = 1
times = 2

[[event]]
type = "Freeze"
notice = 60
"""


@pytest.fixture
def load(tmp_path: Path) -> Any:
    def read(text: Any) -> Any:
        file = tmp_path / "emulator.toml"
        file.write_text(text)
        return load_config(file)

    return read


def test_file_with_all_tables_starts_an_emulator(load: Any, request_token: Send) -> None:
    with Emulator(**load(COMPLETE)) as emulator:
        assert emulator.profile == "arc"
        assert emulator.machine.name == "server-1"
        assert emulator.machine.tags == {"role": "test"}
        assert len(emulator.identities) == 3
        assert emulator.key_vault.secrets == {"greeting": "hi"}
        assert emulator.events[0].event_type == "Freeze"
        assert [request_token(emulator).status_code for _ in range(3)] == [429, 429, 401]


def test_empty_file_sets_no_argument(load: Any) -> None:
    assert load("") == {}


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("profile = ", 1, "not TOML"),
        ("a = 1\nprofile = 'vm'\n\n[", 4, "not TOML"),
        ("\nprofil = 'vm'", 2, "not a known key. Did you mean profile?"),
        ("\nxyz = 'vm'", 2, "not a known key. The keys are"),
        ("limits = true\nprofile = 'gcp'", 2, "profile"),
        ("limits = true\nhost = '0.0.0.0'", 2, "allow_remote"),
        ("limits = true\nport = 70000", 2, "65535"),
        ("limits = true\nnewest_version = '1999'", 2, "no api-version 1999"),
        ("limits = true\ntoken_lifetime = 0", 2, "above zero"),
        ("port = '1'", 1, "whole number"),
        ("port = true", 1, "whole number"),
        ("limits = 1", 1, "true or false"),
        ("events_speed = 0", 1, "above zero"),
        ("[machine]\nname = 'x'\nenvironment = 'Moon'", 3, "environment"),
        ("[machine]\nname = 3", 2, "string"),
        ("[machine]\n[machine.tags]\nx = 3", 2, "tags.x"),
        ("[[identity]]\nname = 'x'\n[[identity]]\nkind = 'y'", 4, "kind"),
        ("[[identity]]\nclient_id = 'x'", 1, "needs a name"),
        ("[[identity]]\nkind = 'system-assigned'\nname = 'x'", 3, "system-assigned"),
        ("[[identity]]\nname = 'x'\n[[identity]]\nname = 'x'", 1, "same client_id"),
        ("[identity]\nname = 'x'", 1, "list"),
        ("identity = [1]", 1, "tables"),
        ("[[fault]]\nstatus = 500\n\n[[fault]]\ntimes = 3", 4, "has no effect"),
        ("[[fault]]\ntimes = 1\nstatus = 99", 3, "status"),
        ('[[fault]]\nstatus = 500\nheaders = {a = "b\\n"}', 3, "header"),
        ("[[event]]\ntype = 'Party'", 2, "type"),
        ("[[event]]\nnotice = -5", 2, "notice"),
        ("[key_vault]\nsecrets = {a = 1}", 2, "secrets"),
    ],
)
def test_every_error_names_its_line(load: Any, text: Any, line: Any, message: Any) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load(text)
    assert f"emulator.toml, line {line}: " in str(caught.value)


def test_file_that_is_not_utf8_is_an_error_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_bytes(b"profile = 'vm'\n\xff")
    with pytest.raises(ConfigError, match="line 2: the file is not UTF-8"):
        load_config(file)


@given(text=st.text(st.sampled_from("abe[]=\"'\n .1tfidentyul-#{},"), max_size=60))
def test_any_text_is_loaded_or_rejected(tmp_path_factory: Any, text: Any) -> None:
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_text(text)
    with contextlib.suppress(ConfigError):
        load_config(file)


def test_flags_take_precedence_over_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "x.toml"
    file.write_text("profile = 'arc'\nport = 1111")
    assert run_command("--config", str(file), "--port", "2222", "--print-env") == 0
    assert "export IMDS_ENDPOINT=http://127.0.0.1:2222" in capsys.readouterr().out


def test_flag_can_make_a_file_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "x.toml"
    file.write_text("host = '0.0.0.0'")
    assert run_command("--config", str(file), "--print-env") == 2
    assert "line 1" in capsys.readouterr().err
    assert run_command("--config", str(file), "--print-env", "--allow-remote") == 0


def test_invalid_or_missing_file_is_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "x.toml"
    assert run_command("--config", str(file)) == 1
    assert "x.toml: No such file" in capsys.readouterr().err
    file.write_text("port = 'x'")
    assert run_command("--config", str(file)) == 2
    assert "line 1" in capsys.readouterr().err
