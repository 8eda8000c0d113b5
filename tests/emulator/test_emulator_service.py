"""The emulator as people run a service: state, names, ports, health, configuration from outside."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests
from azure.keyvault.secrets import SecretClient
from hypothesis import given
from hypothesis import strategies as st

from emulator.support import TOKEN_PATH, VAULT, claims_of, ran
from imds_identity import ManagedIdentityCredential
from imds_identity.emulator import Emulator
from imds_identity.emulator._messages import Request
from imds_identity.emulator._profiles.names import HostNames
from imds_identity.emulator._settings import Settings

if TYPE_CHECKING:
    from emulator.support import Ask, Start

KEPT = """
import sys, requests
from imds_identity.emulator import Emulator
from imds_identity.emulator._profiles.names import HostNames
from imds_identity.emulator._messages import Request
from imds_identity.emulator._settings import Settings
with Emulator(state=sys.argv[1]) as emulator:
    print(requests.get(emulator.jwks_url).text)
    print(open(emulator.key_vault.ca_file).read())
    print(open(emulator.attested_root_file).read())
"""


def test_keys_and_certificates_outlive_a_restart(tmp_path: Path) -> None:
    state = tmp_path / "state"
    command = [sys.executable, "-c", KEPT, str(state)]
    first, second = (subprocess.check_output(command, text=True) for _ in range(2))
    assert first == second
    assert first.count("BEGIN CERTIFICATE") == 2
    assert "PRIVATE" not in first
    keys = list(state.glob("*.key"))
    assert len(keys) == 4
    if os.name == "posix":
        assert {key.stat().st_mode & 0o777 for key in keys} == {0o600}


def test_without_a_directory_nothing_is_kept(started: Start) -> None:
    roots = [Path(started().attested_root_file).read_text() for _ in range(2)]
    assert roots[0] != roots[1]


def test_a_kept_key_that_is_none_is_an_error_at_start(tmp_path: Path) -> None:
    (tmp_path / "token-signing.key").write_text("no key")
    with pytest.raises(ValueError, match=r"token-signing\.key .*remove it"):
        Emulator(state=tmp_path).start()


def test_keys_are_kept_on_a_volume_without_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    texts = []
    for _ in range(2):
        with Emulator(state=tmp_path, key_vault=False) as emulator:
            texts.append(requests.get(emulator.jwks_url, timeout=10).text)
    assert texts[0] == texts[1]
    assert os.listdir(tmp_path) == ["token-signing.key"]


@pytest.mark.parametrize("lost", ["key-vault-ca.key", "attested-root.key", "attested-ca.key"])
def test_a_kept_certificate_of_a_lost_key_is_refused(tmp_path: Path, lost: str) -> None:
    with Emulator(state=tmp_path) as emulator:
        assert emulator.attested_root_file
    (tmp_path / lost).unlink()
    with (
        pytest.raises(ValueError, match=r"\.pem in .* does not belong .*remove it"),
        Emulator(state=tmp_path) as emulator,
    ):
        assert emulator.attested_root_file


def test_a_state_directory_that_cannot_be_made_is_an_error_at_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        Emulator(state=tmp_path / "file").start()


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
@pytest.mark.parametrize("path", [TOKEN_PATH, "/oauth2/token", "/metadata/instance"])
def test_no_web_page_can_reach_it_under_the_name_of_its_site(
    started: Start, get: Ask, host: str, path: str
) -> None:
    emulator = started()
    headers = {"Host": host}
    answer = get(emulator, path, api_version="2018-02-01", resource=VAULT, headers=headers)
    assert answer.status_code in (400, 421)
    assert "access_token" not in answer.text
    assert emulator.issued_tokens == []


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "localhost:40342", "[::1]:80", "10.0.0.7:1", "a.localhost"]
)
def test_addresses_and_localhost_are_its_names(started: Start, ask: Ask, host: str) -> None:
    assert ask(started(), headers={"Host": host}).status_code == 200


def test_further_names_are_allowed_by_flag(started: Start, ask: Ask) -> None:
    emulator = started(allowed_hosts=["imds"])
    assert ask(emulator, headers={"Host": "imds:80"}).status_code == 200
    assert "--allow-host" in ask(emulator, headers={"Host": "imsd:80"}).json()["error"]


def test_no_answer_may_be_read_by_another_site(started: Start, ask: Ask) -> None:
    answer = ask(started(), headers={"Origin": "http://evil.example"})
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]


def test_health_is_told_to_whoever_waits_and_is_no_request(
    started: Start, http: requests.Session
) -> None:
    emulator = started("arc", admin_port=0, limits=True)
    emulator.fault(category="*", status=500)
    for _ in range(9):
        answer = requests.get(emulator.endpoint + "/health", timeout=10)
        assert (answer.status_code, answer.json()) == (200, {"profile": "arc", "status": "ok"})
    assert http.get(f"{emulator.admin_url}/health").status_code == 200
    assert emulator.requests == []


def printed(capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    assert ran("--print-env", *flags) == 0
    return capsys.readouterr().out


def test_a_base_moves_all_ports_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, "--port-base", "21000")
    assert "=http://127.0.0.1:21000" in lines
    assert "KEY_VAULT_URL=https://127.0.0.1:21001" in lines
    assert "=http://127.0.0.1:5" in printed(capsys, "--port-base", "21000", "--port", "5")


def test_print_env_tells_of_the_vault_and_has_no_comments(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    lines = printed(capsys, "--state", str(tmp_path))
    assert "#" not in lines
    assert f"KEY_VAULT_CA_FILE={shlex.quote(str(tmp_path / 'key-vault-ca.pem'))}" in lines
    assert "export IMDS_IDENTITY_CACHE=off" in lines


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"PROFILE": "arc", "PORT": "5"}, "IDENTITY_ENDPOINT=http://127.0.0.1:5/"),
        ({"PORT_BASE": "21000"}, "=https://127.0.0.1:21001"),
        ({"PROFILE": "app-service", "IDENTITY_HEADER": "h"}, "IDENTITY_HEADER=h"),
        ({"FAULT": "status=500; status=429,times=1", "NO_ADMIN": "on"}, "AUTHORITY_HOST"),
        ({"EVENTS_SPEED": "60", "LIMITS": "off", "USER_ASSIGNED": "a;b"}, "AUTHORITY_HOST"),
    ],
)
def test_variables_say_what_flags_say(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    expected: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"IMDS_EMULATOR_{name}", value)
    assert expected in printed(capsys)


def test_a_flag_goes_before_a_variable_and_that_before_the_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("port = 1\nprofile = 'arc'\n")
    monkeypatch.setenv("IMDS_EMULATOR_CONFIG", str(tmp_path / "file"))
    assert "127.0.0.1:1/" in printed(capsys)
    monkeypatch.setenv("IMDS_EMULATOR_PORT", "2")
    assert "127.0.0.1:2/" in printed(capsys)
    assert "127.0.0.1:3/" in printed(capsys, "--port", "3")


@pytest.mark.parametrize(
    ("name", "value"), [("PORT", "tcp://10.0.0.1:80"), ("LIMITS", "perhaps"), ("FAULT", "x")]
)
def test_a_variable_that_makes_no_sense_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"IMDS_EMULATOR_{name}", value)
    assert ran("--print-env") == 2
    assert name in capsys.readouterr().err.upper()


def test_the_vault_s_own_options_are_all_that_microsoft_s_client_needs(
    started: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator = started(key_vault=True)
    for name, value in emulator.environment().items():
        monkeypatch.setenv(name, value)
    vault = emulator.key_vault
    with SecretClient(vault.url, ManagedIdentityCredential(), **vault.client_options) as client:
        assert client.get_secret("greeting").value == vault.secrets["greeting"]


def test_two_emulators_serve_beside_each_other(started: Start, ask: Ask) -> None:
    one, two = started(), started()
    assert claims_of(ask(one))["aud"] == claims_of(ask(two))["aud"] == VAULT


def test_on_every_address_it_is_called_by_the_name_allowed() -> None:
    settings = Settings(host="0.0.0.0", allow_remote=True, allowed_hosts=["imds"])
    assert settings.url("http", 80) == "http://imds:80"
    assert Settings(host="0.0.0.0", allow_remote=True).url("http", 80) == "http://127.0.0.1:80"


@given(st.from_regex(r"[a-z][a-z0-9.-]{0,20}", fullmatch=True), st.sampled_from(["", ":", ":80"]))
def test_a_name_is_this_machine_s_only_if_it_is_allowed(name: str, port: str) -> None:
    admitted = HostNames(["imds"]).admit(Request.parse("GET", "/", [("host", name + port)]))
    assert admitted is (name in ("imds", "localhost") or name.endswith(".localhost"))


@given(st.text())
def test_no_host_header_is_too_strange_to_judge(text: str) -> None:
    assert HostNames().admit(Request.parse("GET", "/", [("host", text)])) in (True, False)
