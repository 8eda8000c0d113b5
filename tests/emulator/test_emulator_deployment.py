"""Running the emulator as a service: state, host names, ports, health, environment variables."""

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

from emulator.support import TOKEN_PATH, VAULT, claims_of, run_command
from imds_identity import ManagedIdentityCredential
from imds_identity.emulator import Emulator
from imds_identity.emulator._messages import Request
from imds_identity.emulator._profiles.allowed_hosts import AllowedHosts
from imds_identity.emulator._settings import Settings

if TYPE_CHECKING:
    from emulator.support import Send, Start

PRINT_KEYS = """
import sys, requests
from imds_identity.emulator import Emulator
from imds_identity.emulator._profiles.allowed_hosts import AllowedHosts
from imds_identity.emulator._messages import Request
from imds_identity.emulator._settings import Settings
with Emulator(state=sys.argv[1]) as emulator:
    print(requests.get(emulator.jwks_url).text)
    print(open(emulator.key_vault.ca_file).read())
    print(open(emulator.attested_root_file).read())
"""


def test_keys_and_certificates_survive_a_restart(tmp_path: Path) -> None:
    state = tmp_path / "state"
    command = [sys.executable, "-c", PRINT_KEYS, str(state)]
    first, second = (subprocess.check_output(command, text=True) for _ in range(2))
    assert first == second
    assert first.count("BEGIN CERTIFICATE") == 2
    assert "PRIVATE" not in first
    keys = list(state.glob("*.key"))
    assert len(keys) == 4
    if os.name == "posix":
        assert {key.stat().st_mode & 0o777 for key in keys} == {0o600}


def test_without_a_state_directory_everything_is_new(start_emulator: Start) -> None:
    roots = [Path(start_emulator().attested_root_file).read_text() for _ in range(2)]
    assert roots[0] != roots[1]


def test_damaged_key_file_is_an_error_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "token-signing.key").write_text("no key")
    with pytest.raises(ValueError, match=r"token-signing\.key .*remove it"):
        Emulator(state=tmp_path).start()


def test_keys_are_stored_on_a_volume_without_hard_links(
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
def test_stored_certificate_without_its_key_is_an_error(tmp_path: Path, lost: str) -> None:
    with Emulator(state=tmp_path) as emulator:
        assert emulator.attested_root_file
    (tmp_path / lost).unlink()
    with (
        pytest.raises(ValueError, match=r"\.pem in .* does not belong .*remove it"),
        Emulator(state=tmp_path) as emulator,
    ):
        assert emulator.attested_root_file


def test_state_directory_that_cannot_be_created_is_an_error_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        Emulator(state=tmp_path / "file").start()


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
@pytest.mark.parametrize("path", [TOKEN_PATH, "/oauth2/token", "/metadata/instance"])
def test_requests_with_a_foreign_host_name_are_rejected(
    start_emulator: Start, get: Send, host: str, path: str
) -> None:
    emulator = start_emulator()
    headers = {"Host": host}
    response = get(emulator, path, api_version="2018-02-01", resource=VAULT, headers=headers)
    assert response.status_code in (400, 421)
    assert "access_token" not in response.text
    assert emulator.issued_tokens == []


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "localhost:40342", "[::1]:80", "10.0.0.7:1", "a.localhost"]
)
def test_addresses_and_localhost_are_accepted_as_host(
    start_emulator: Start, request_token: Send, host: str
) -> None:
    assert request_token(start_emulator(), headers={"Host": host}).status_code == 200


def test_allowed_host_names_are_accepted(start_emulator: Start, request_token: Send) -> None:
    emulator = start_emulator(allowed_hosts=["imds"])
    assert request_token(emulator, headers={"Host": "imds:80"}).status_code == 200
    assert "--allow-host" in request_token(emulator, headers={"Host": "imsd:80"}).json()["error"]


def test_responses_allow_no_cross_origin_access(start_emulator: Start, request_token: Send) -> None:
    response = request_token(start_emulator(), headers={"Origin": "http://evil.example"})
    assert not [name for name in response.headers if name.lower().startswith("access-control")]


def test_health_check_is_not_logged_limited_or_affected_by_faults(
    start_emulator: Start, http: requests.Session
) -> None:
    emulator = start_emulator("arc", admin_port=0, limits=True)
    emulator.fault(category="*", status=500)
    for _ in range(9):
        response = requests.get(emulator.endpoint + "/health", timeout=10)
        assert (response.status_code, response.json()) == (200, {"profile": "arc", "status": "ok"})
    assert http.get(f"{emulator.admin_url}/health").status_code == 200
    assert emulator.requests == []


def print_env(capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    assert run_command("--print-env", *flags) == 0
    return capsys.readouterr().out


def test_port_base_moves_all_ports(capsys: pytest.CaptureFixture[str]) -> None:
    lines = print_env(capsys, "--port-base", "21000")
    assert "=http://127.0.0.1:21000" in lines
    assert "KEY_VAULT_URL=https://127.0.0.1:21001" in lines
    assert "=http://127.0.0.1:5" in print_env(capsys, "--port-base", "21000", "--port", "5")


def test_print_env_includes_the_key_vault_and_has_no_comments(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    lines = print_env(capsys, "--state", str(tmp_path))
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
def test_environment_variables_set_flags(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    expected: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"IMDS_EMULATOR_{name}", value)
    assert expected in print_env(capsys)


def test_flags_override_variables_and_variables_the_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("port = 1\nprofile = 'arc'\n")
    monkeypatch.setenv("IMDS_EMULATOR_CONFIG", str(tmp_path / "file"))
    assert "127.0.0.1:1/" in print_env(capsys)
    monkeypatch.setenv("IMDS_EMULATOR_PORT", "2")
    assert "127.0.0.1:2/" in print_env(capsys)
    assert "127.0.0.1:3/" in print_env(capsys, "--port", "3")


@pytest.mark.parametrize(
    ("name", "value"), [("PORT", "tcp://10.0.0.1:80"), ("LIMITS", "perhaps"), ("FAULT", "x")]
)
def test_error_names_the_invalid_variable(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"IMDS_EMULATOR_{name}", value)
    assert run_command("--print-env") == 2
    assert name in capsys.readouterr().err.upper()


def test_microsoft_s_client_accepts_the_vault_with_its_client_options(
    start_emulator: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator = start_emulator(key_vault=True)
    for name, value in emulator.environment().items():
        monkeypatch.setenv(name, value)
    vault = emulator.key_vault
    with SecretClient(vault.url, ManagedIdentityCredential(), **vault.client_options) as client:
        assert client.get_secret("greeting").value == vault.secrets["greeting"]


def test_two_emulators_serve_at_the_same_time(start_emulator: Start, request_token: Send) -> None:
    one, two = start_emulator(), start_emulator()
    assert claims_of(request_token(one))["aud"] == claims_of(request_token(two))["aud"] == VAULT


def test_url_on_a_wildcard_address_has_the_allowed_name() -> None:
    settings = Settings(host="0.0.0.0", allow_remote=True, allowed_hosts=["imds"])
    assert settings.url("http", 80) == "http://imds:80"
    assert Settings(host="0.0.0.0", allow_remote=True).url("http", 80) == "http://127.0.0.1:80"


@given(st.from_regex(r"[a-z][a-z0-9.-]{0,20}", fullmatch=True), st.sampled_from(["", ":", ":80"]))
def test_only_allowed_names_are_accepted(name: str, port: str) -> None:
    allowed = AllowedHosts(["imds"]).allows(Request.parse("GET", "/", [("host", name + port)]))
    assert allowed is (name in ("imds", "localhost") or name.endswith(".localhost"))


@given(st.text())
def test_any_host_header_is_accepted_or_rejected(text: str) -> None:
    assert AllowedHosts().allows(Request.parse("GET", "/", [("host", text)])) in (True, False)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("FAULTS", "FAULT"),
        ("TOKEN_LIFETIM", "TOKEN_LIFETIME"),
        ("NO_LIMITS", "LIMITS"),
        ("USERASSIGNED", "USER_ASSIGNED"),
    ],
)
def test_error_names_the_variable_that_is_nearest_to_a_wrong_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, nearest: str
) -> None:
    monkeypatch.setenv(f"IMDS_EMULATOR_{name}", "x")
    assert run_command("--print-env") == 2
    assert f"Did you mean IMDS_EMULATOR_{nearest}?" in capsys.readouterr().err


def test_variables_of_kubernetes_and_of_clients_are_no_errors(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_KEY_VAULT", "PORT_16925_TCP",
        "PORT_16925_TCP_ADDR", "PORT_16925_TCP_PORT", "PORT_16925_TCP_PROTO", "KEY_VAULT_URL",
        "KEY_VAULT_CA_FILE", "QQQ",
    ):  # fmt: skip
        monkeypatch.setenv(f"IMDS_EMULATOR_{name}", "x")
    assert "export" in print_env(capsys)
