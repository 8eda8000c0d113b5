"""Logins to a stub of HashiCorp Vault; tests/interop/test_credential_helpers.py uses hvac."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from fake_vault import VAULT_TOKEN, FakeVault
from imds_identity.emulator import DEFAULT_USER_ASSIGNED, Machine
from imds_identity.hashicorp_vault import azure_login, machine_parameters
from support import FakeCredential

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from imds_identity.emulator import Emulator

ROLE = ("--role", "my-role")


@pytest.fixture
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeVault]:
    with FakeVault.running(tmp_path) as vault:
        for name, value in vault.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("VAULT_NAMESPACE", raising=False)
        yield vault


def test_vault_token_is_printed(vault: FakeVault, imds_emulator: Emulator, run_cli: Any) -> None:
    assert run_cli("vault-login", *ROLE) == (0, f"{VAULT_TOKEN}\n", "")
    [token], [(path, headers, login)] = imds_emulator.issued_tokens, vault.logins
    machine = Machine()
    assert token.resource == "https://management.azure.com/"
    assert path == "/v1/auth/azure/login"
    assert login == {
        "role": "my-role",
        "jwt": token.value,
        "subscription_id": machine.subscription_id,
        "resource_group_name": machine.resource_group,
        "vm_name": machine.name,
    }
    assert headers["X-Vault-Request"] == "true"
    assert headers["Authorization"] is headers["X-Vault-Namespace"] is None


def test_flags_and_variables_change_the_login(
    vault: FakeVault, imds_emulator: Emulator, run_cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = os.environ["VAULT_ADDR"]
    monkeypatch.setenv("VAULT_ADDR", "https://127.0.0.1:9")
    monkeypatch.setenv("VAULT_NAMESPACE", "admin/team")
    status, out, _ = run_cli(
        "vault-login", *ROLE, "--address", f"{address}/", "--mount", "/team/az ure/",
        "--resource", "https://vault.azure.net", "--client-id", DEFAULT_USER_ASSIGNED.client_id,
        "-o", "json",
    )  # fmt: skip
    [(path, headers, _)] = vault.logins
    [request] = imds_emulator.token_requests
    assert status == 0
    assert f'"client_token": "{VAULT_TOKEN}"' in out
    assert '"lease_duration": 3600' in out
    assert path == "/v1/auth/team/az%20ure/login"
    assert headers["X-Vault-Namespace"] == "admin/team"
    assert request.query["resource"] == "https://vault.azure.net"
    assert request.query["client_id"] == DEFAULT_USER_ASSIGNED.client_id


def test_refusal_is_explained_without_the_token(
    vault: FakeVault, imds_emulator: Emulator, run_cli: Any
) -> None:
    vault.status, vault.body = 403, {"errors": ["permission denied"]}
    vault.echoes = True
    status, out, err = run_cli("vault-login", *ROLE)
    [token] = imds_emulator.issued_tokens
    assert (status, out) == (1, "")
    assert "403 Forbidden" in err
    assert "permission denied" in err
    assert f"role=my-role, subscription_id={Machine().subscription_id}" in err
    assert token.value not in err
    assert token.value.split(".")[1] not in err


def test_errors_of_vault_are_readable(
    vault: FakeVault, imds_emulator: Emulator, run_cli: Any
) -> None:
    vault.status, vault.body = 400, {"errors": ["invalid role", "sealed"]}
    assert "400 Bad Request: invalid role; sealed." in run_cli("vault-login", *ROLE)[2]


def test_response_without_a_token_is_an_error(
    vault: FakeVault, imds_emulator: Emulator, run_cli: Any
) -> None:
    tokens: list[object] = [7, "", "a\x1bb"]
    bodies: list[object] = [[], {"auth": None}, {"auth": {}}]
    for vault.body in bodies + [{"auth": {"client_token": token}} for token in tokens]:
        status, out, err = run_cli("vault-login", *ROLE)
        assert (status, out) == (1, ""), vault.body
        assert "the response has no token" in err


def test_token_is_not_sent_to_the_host_of_a_redirect(
    vault: FakeVault, imds_emulator: Emulator, run_cli: Any
) -> None:
    vault.status, vault.location = 307, "https://127.0.0.1:9/v1/auth/azure/login"
    status, _, err = run_cli("vault-login", *ROLE)
    assert status == 1
    assert "refusing to follow a link to another host" in err
    assert len(vault.logins) == 1


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("VAULT_ADDR", "", "the address of Vault is missing: set VAULT_ADDR"),
        ("VAULT_ADDR", "http://127.0.0.1:8200", "not https"),
        ("VAULT_ADDR", "https://user@127.0.0.1:8200", "without a user name"),
        ("VAULT_CACERT", "/no/such/file", "VAULT_CACERT='/no/such/file' cannot be used: No such"),
        ("VAULT_CACERT", __file__, "VAULT_CACERT="),
    ],
)
def test_wrong_variables_are_named(
    vault: FakeVault,
    imds_emulator: Emulator,
    run_cli: Any,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    message: str,
) -> None:
    monkeypatch.setenv(name, value)
    status, out, err = run_cli("vault-login", *ROLE)
    assert (status, out) == (2, "")
    assert message in err
    assert imds_emulator.token_requests == []


def test_other_certificate_gets_no_token(
    vault: FakeVault, imds_emulator: Emulator, run_cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAULT_CACERT", "")
    status, _, err = run_cli("vault-login", *ROLE)
    assert status == 1
    assert "CERTIFICATE_VERIFY_FAILED" in err
    assert vault.logins == []


def test_command_gets_a_vault_token(vault: FakeVault, imds_emulator: Emulator) -> None:
    program = "import os; print(os.environ['VAULT_TOKEN'], 'IDENTITY_ENDPOINT' in os.environ)"
    done = subprocess.run(
        [sys.executable, "-m", "imds_identity", "exec", "--vault-role", "my-role", "--",
         sys.executable, "-c", program],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{VAULT_TOKEN} False\n", "")


def test_command_does_not_start_without_a_vault_token(
    vault: FakeVault, imds_emulator: Emulator, run_cli: Any
) -> None:
    vault.status = 400
    status, out, err = run_cli("exec", "--vault-role", "my-role", "--", "app")
    assert (status, out) == (1, "")
    assert "400 Bad Request" in err


def test_scale_set_is_named(
    start_emulator: Callable[..., Emulator], monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator = start_emulator(machine=Machine(scale_set="web"))
    for name, value in emulator.environment().items():
        monkeypatch.setenv(name, value)
    parameters = machine_parameters()
    assert (parameters["vm_name"], parameters["vmss_name"]) == ("web_0", "web")


def test_arc_server_is_named_by_its_resource_id(arc_emulator: Emulator) -> None:
    parameters = machine_parameters()
    assert parameters.keys() == {"subscription_id", "resource_group_name", "resource_id"}
    assert "/Microsoft.HybridCompute/machines/" in parameters["resource_id"]


def test_login_without_metadata_is_reported(
    imds_emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    imds_emulator.fault(category="instance", status=400, times=None)
    assert machine_parameters() == {}
    assert "the login to Vault does not name this machine: " in caplog.text


def test_login_names_no_machine_where_there_is_no_metadata_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    credential = FakeCredential()
    assert azure_login("r", credential=credential) == {"role": "r", "jwt": "token-1"}
    monkeypatch.setenv("IDENTITY_ENDPOINT", "http://127.0.0.1:9/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", "secret-of-the-app")
    assert azure_login("r", credential=credential) == {"role": "r", "jwt": "token-2"}
    with pytest.raises(TypeError, match="not both"):
        azure_login("r", credential=credential, client_id="c")


def test_login_with_a_managed_identity(imds_emulator: Emulator) -> None:
    parameters = azure_login(
        "r", resource="https://vault.azure.net", client_id=DEFAULT_USER_ASSIGNED.client_id
    )
    [token] = imds_emulator.issued_tokens
    assert (token.resource, parameters["jwt"]) == ("https://vault.azure.net", token.value)
    assert parameters["vm_name"] == Machine().name
