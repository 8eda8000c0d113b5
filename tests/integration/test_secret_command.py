"""``imds-identity secret``, ``exec --env`` and ``whoami`` with the emulated Key Vault."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from argparse import Namespace
from typing import TYPE_CHECKING, Any

import pytest

from imds_identity._platform import windows
from imds_identity._platform.environment import patched_environ
from imds_identity.cli import main
from imds_identity.cli._api.hosts import cloud_getter, origin_url, service_of
from imds_identity.cli._api.vault import SecretAddress, parse_reference, parse_secret_url
from imds_identity.emulator import DEFAULT_SYSTEM_ASSIGNED, DEFAULT_USER_ASSIGNED, Machine
from imds_identity.metadata.clouds import CHINA, CLOUDS, PUBLIC

if TYPE_CHECKING:
    from pathlib import Path

    from imds_identity.emulator import Emulator

VAULT = "https://vault.azure.net"
TOP_DOMAINS = {
    "AzurePublicCloud": "azure.com",
    "AzureUSGovernmentCloud": "usgovcloudapi.net",
    "AzureChinaCloud": ".cn",
}
PROGRAM = [sys.executable, "-m", "imds_identity"]


@pytest.fixture
def vault(imds_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a trusted vault with secrets."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", imds_emulator.key_vault.ca_file)
    imds_emulator.key_vault.secrets.update(
        {"plain": "grüße\n", "nested": '{"db": {"password": "p4ss", "ports": [1, 2]}}'}
    )
    return imds_emulator.key_vault.url


def run(*arguments: str, **more: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*PROGRAM, *arguments], capture_output=True, timeout=60, check=False, **more
    )


def secret(vault: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    paths = [f"{vault}/secrets/{each}" for each in arguments if not each.startswith("-")]
    flags = [each for each in arguments if each.startswith("-")]
    return run("secret", *paths, *flags, f"--resource={VAULT}")


def test_exact_bytes_are_printed(vault: str) -> None:
    done = secret(vault, "plain")
    assert (done.returncode, done.stdout, done.stderr) == (0, "grüße\n".encode(), b"")


def test_emulated_vault_is_found_by_its_variables(
    vault: str, imds_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    secret_url = f"{vault}/secrets/plain"
    assert run("secret", secret_url, f"--resource={VAULT}").returncode == 1
    monkeypatch.setenv("IMDS_EMULATOR_KEY_VAULT_URL", vault)
    monkeypatch.setenv("IMDS_EMULATOR_KEY_VAULT_CA_FILE", imds_emulator.key_vault.ca_file)
    assert run("secret", secret_url).stdout == "grüße\n".encode()


def test_several_secrets_are_fetched_with_one_token(vault: str, imds_emulator: Emulator) -> None:
    done = secret(vault, "plain", "nested", "plain", "-ojson")
    bundles = json.loads(done.stdout)
    assert [each["value"][0] for each in bundles] == ["g", "{", "g"]
    assert bundles[0]["attributes"]["enabled"] is True
    assert len(imds_emulator.token_requests) == 1
    assert secret(vault, "plain", "nested").returncode == 2


def test_missing_secret_is_an_error(vault: str) -> None:
    done = secret(vault, "plain", "no-such", "-ojson")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"SecretNotFound" in done.stderr


def test_secret_is_written_to_a_private_file(vault: str, tmp_path: Path) -> None:
    target = tmp_path / "secret"
    target.write_bytes(b"an older secret")
    done = secret(vault, "plain", f"--file={target}")
    assert (done.returncode, done.stdout) == (0, b"")
    assert target.read_bytes() == "grüße\n".encode()
    if sys.platform == "win32":
        assert windows.other_readers(str(target)) == []
    else:
        assert target.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [target]
    done = secret(vault, "plain", f"--file={tmp_path}/no/such")
    assert (done.returncode, f"{tmp_path}/no/such:".encode() in done.stderr) == (1, True)


@pytest.mark.skipif(sys.platform == "win32", reason="needs symbolic links")
def test_secret_is_not_written_in_place_of_a_link(vault: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    done = secret(vault, "plain", f"--file={tmp_path}/link")
    assert (done.returncode, done.stdout) == (1, b"")
    assert f"{tmp_path}/link: it is a symbolic link".encode() in done.stderr
    assert os.listdir(tmp_path) == ["link"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX devices")
def test_secret_is_written_to_standard_output_by_its_path(vault: str) -> None:
    done = secret(vault, "plain", "--file=/dev/stdout")
    assert (done.returncode, done.stdout.decode()) == (0, "grüße\n")


def test_unknown_host_gets_no_token(vault: str, imds_emulator: Emulator) -> None:
    done = run("secret", f"{vault}/secrets/plain")
    assert done.returncode == 2
    assert b"--resource" in done.stderr
    assert imds_emulator.token_requests == []


def test_challenge_for_another_resource_is_refused(vault: str) -> None:
    done = run("secret", f"{vault}/secrets/plain", "--resource", "https://vault.azure.cn")
    assert done.returncode == 1
    assert b"the vault's challenge names https://vault.azure.net" in done.stderr


def test_terminal_requires_show(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["secret", "https://v.vault.azure.net/secrets/s"]) == 2
    assert "--show" in capsys.readouterr().err


def test_control_characters_are_escaped_on_a_terminal(
    vault: str,
    imds_emulator: Emulator,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    imds_emulator.key_vault.secrets["escapes"] = "-----\r\na\tb\x1b[31m\x9b0m\u202eü\r\x00\n"
    reference = f"{vault}/secrets/escapes"
    assert main(["secret", reference, "--resource", VAULT, "--show"]) == 0
    assert capsys.readouterr().out == imds_emulator.key_vault.secrets["escapes"]
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["secret", reference, "--resource", VAULT, "--show"]) == 0
    assert capsys.readouterr().out == "-----\na\tb\\x1b[31m\\x9b0m\\u202eü\\r\\x00\n"


@pytest.mark.parametrize(
    ("host", "resource"),
    [
        ("management.azure.com", "https://management.azure.com"),
        ("MANAGEMENT.usgovcloudapi.net", "https://management.usgovcloudapi.net"),
        ("my.vault.azure.net", VAULT),
        ("my.vault.azure.cn", "https://vault.azure.cn"),
        ("account.blob.core.windows.net", "https://storage.azure.com"),
        ("graph.microsoft.com", "https://graph.microsoft.com"),
        ("vault.azure.net", None),
        ("my.vault.azure.net.evil.example", None),
        ("evilvault.azure.net", None),
        ("management.azure.com.evil.example", None),
        ("a.management.azure.com", None),
        ("127.0.0.1", None),
    ],
)
def test_resource_is_inferred_from_the_host(host: str, resource: str | None) -> None:
    cloud = next((each for each in CLOUDS if host.endswith(TOP_DOMAINS[each.name])), PUBLIC)
    service = service_of(host, lambda: cloud)
    assert (service and service.resource) == resource


@pytest.mark.parametrize(
    "host",
    [
        "account.blob.core.chinacloudapi.cn",
        "account.queue.core.usgovcloudapi.net",
        "account.blob.core.cloudapi.de",
        "management.microsoftazure.de",
        "my.vault.usgovcloudapi.net",
        "my.vault.microsoftazure.de",
        "management.chinacloudapi.cn",
        "GRAPH.microsoft.us",
        "microsoftgraph.chinacloudapi.cn",
    ],
)
def test_host_of_another_cloud_gets_no_token(
    imds_emulator: Emulator, capsys: pytest.CaptureFixture[str], host: str
) -> None:
    for more in ((), ("--resource", "https://storage.azure.com")):
        assert main(["rest", "GET", f"https://{host}/x", *more]) == 2
        assert "but this machine to AzurePublicCloud: refusing" in capsys.readouterr().err
    assert main(["secret", f"kv://{host}/x", "--resource", VAULT]) == 2
    assert imds_emulator.token_requests == []


@pytest.mark.parametrize("profile", ["vm", "arc"])
def test_machine_sends_tokens_to_hosts_of_its_own_cloud(start_emulator: Any, profile: str) -> None:
    emulator = start_emulator(profile, machine=Machine(environment="AzureChinaCloud"))
    with patched_environ(emulator.environment()):
        cloud = cloud_getter(Namespace(cloud=None, source=None))
        service = service_of("my.vault.azure.cn", cloud)
        assert service is not None
        assert service.resource == "https://vault.azure.cn"
        with pytest.raises(ValueError, match=r"pass --cloud AzurePublicCloud"):
            service_of("my.vault.azure.net", cloud)
        public = cloud_getter(Namespace(cloud="AzurePublicCloud"))
        assert service_of("my.vault.azure.net", public) is not None


def test_machine_of_an_unknown_cloud_requires_a_cloud(start_emulator: Any) -> None:
    emulator = start_emulator("stack-hub", machine=Machine(environment="AzureStack"))
    with patched_environ({"AZURE_POD_IDENTITY_AUTHORITY_HOST": emulator.endpoint}):
        cloud = cloud_getter(Namespace(cloud=None, source=None))
        with pytest.raises(ValueError, match=r"cloud \(AzureStack\) are unknown: pass a URL"):
            service_of("my.vault.azure.net", cloud)
        assert service_of("vault.hub.example", cloud) is None


def test_authority_of_a_workload_identity_names_the_cloud(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", "https://login.chinacloudapi.cn/")
    assert cloud_getter(Namespace(cloud=None, source=None))() == CHINA


@pytest.mark.parametrize(
    "reference",
    [
        "kv://management.azure.com/x",
        "kv://graph.microsoft.com/x",
        "https://account.blob.core.windows.net/secrets/x",
    ],
)
def test_other_services_of_azure_are_not_vaults(
    imds_emulator: Emulator, capsys: pytest.CaptureFixture[str], reference: str
) -> None:
    for more in ((), ("--resource", VAULT)):
        assert main(["secret", reference, *more]) == 2
        assert "is not a key vault" in capsys.readouterr().err
    assert imds_emulator.token_requests == []


@pytest.mark.parametrize(
    "url",
    [
        "http://my.vault.azure.net/secrets/a",
        "https://my.vault.azure.net@evil.example/secrets/a",
        "https://evil.example\\@my.vault.azure.net/secrets/a",
        "https://my.vault.azure.net:x/secrets/a",
        "https:///secrets/a",
        "https://my.vault.azure.net/keys/a",
        "https://my.vault.azure.net/secrets/",
        "https://my.vault.azure.net/secrets/a/b/c",
        "https://my.vault.azure.net/secrets/../a",
        "https://my.vault.azure.net/secrets/a?x=1",
        "https://my.vault.azure.net/secrets/a%2fb",
        "file:///etc/passwd",
        "",
    ],
)
def test_invalid_secret_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"https|secret|URL"):
        parse_secret_url(url)


def test_references_are_parsed() -> None:
    assert parse_reference("kv://my/a", lambda: PUBLIC) == SecretAddress(
        "https://my.vault.azure.net", "a"
    )
    assert parse_reference("kv://my/a/1", lambda: CHINA) == SecretAddress(
        "https://my.vault.azure.cn", "a", "1"
    )
    found = parse_reference("kv://127.0.0.1:8443/a#db.password", lambda: PUBLIC)
    assert found == SecretAddress("https://127.0.0.1:8443", "a", "", "db.password")
    assert origin_url("https://HOST:443/x") == "https://host"
    for invalid in ("kv://", "kv://my", "kv://my/", "https://my/a", "kv:my/a", "kv://a@b/c"):
        with pytest.raises(ValueError, match=r"kv://|URL|lacks a valid secret name"):
            parse_reference(invalid, lambda: PUBLIC)


def exec_(vault: str, *arguments: str, **more: Any) -> subprocess.CompletedProcess[bytes]:
    host = vault.removeprefix("https://")
    words = [each.replace("kv://V", f"kv://{host}") for each in arguments]
    return run("exec", "--vault-resource", VAULT, *words, **more)


@pytest.mark.skipif(shutil.which("sh") is None, reason="needs a POSIX shell")
def test_command_gets_its_secrets(vault: str, imds_emulator: Emulator) -> None:
    done = exec_(
        vault, "--env", "A=kv://V/plain", "--env", "B=kv://V/nested#db.password",
        "--env", "C=kv://V/nested#db.ports", "--file", "D=kv://V/plain",
        "--", "sh", "-c", 'printf %s "$A|$B|$C|"; (cat "$D"; stat -Lc %a "$D")',
    )  # fmt: skip
    assert done.stderr == b""
    assert done.stdout.decode() == "grüße\n|p4ss|[1, 2]|grüße\n400\n"
    assert len(imds_emulator.token_requests) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="needs files in memory")
def test_memory_file_can_be_read_and_not_changed(vault: str) -> None:
    """The command inherits a descriptor; it may run programs as another user."""
    script = """
import os
path = os.environ["A"]
descriptor = int(path.rpartition("/")[2])
open_files = [os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]
assert len([each for each in open_files if "memfd:" in each]) == 1, open_files
for change in (
    lambda: os.write(descriptor, b"x"),
    lambda: os.truncate(path, 0),
    lambda: os.write(os.open(path, os.O_RDWR), b"x"),
    lambda: os.pwrite(os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY), b"x", 0),
):
    try:
        change()
    except OSError:
        continue
    print("changed")
print(open(path).read())
"""
    done = exec_(vault, "--file", "A=kv://V/plain", "--", sys.executable, "-c", script)
    assert (done.stdout.decode(), done.stderr) == ("grüße\n\n", b"")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot replace a process")
def test_without_endpoint_the_process_is_replaced(vault: str) -> None:
    script = "import os; print(os.getppid(), 'IDENTITY_HEADER' in os.environ)"
    done = exec_(vault, "--env", "A=kv://V/plain", "--", sys.executable, "-c", script)
    assert done.stdout.split() == [str(os.getpid()).encode(), b"False"]
    both = exec_(vault, "--endpoint", "--env", "A=kv://V/plain", "--", sys.executable, "-c", script)
    assert both.stdout.split()[0] != str(os.getpid()).encode()
    assert both.stdout.split()[1] == b"True"


def test_command_does_not_start_if_a_secret_is_missing(vault: str, tmp_path: Path) -> None:
    target = tmp_path / "started"
    for wrong in ("B=kv://V/no-such", "B=kv://V/nested#no.such", "B=kv://V/plain#no"):
        done = exec_(vault, "--env", "A=kv://V/plain", "--env", wrong, "--", "touch", str(target))
        assert done.returncode == 1
        assert not target.exists()
        assert b"p4ss" not in done.stderr
    assert exec_(vault, "--env", "A-B=kv://V/plain", "--", "touch", str(target)).returncode == 2
    twice = ("--env", "A=kv://V/plain", "--file", "A=kv://V/plain")
    assert exec_(vault, *twice, "--", "touch", str(target)).returncode == 2


def test_whoami_shows_the_identity(
    imds_emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["whoami", "-o", "json"]) == 0
    fields = json.loads(capsys.readouterr().out)
    assert fields["clientId"] == DEFAULT_SYSTEM_ASSIGNED.client_id
    assert fields["subscription"] == fields["identity"].split("/")[2]
    assert fields["audience"] == "https://management.azure.com"
    assert main(["whoami", VAULT, "--client-id", DEFAULT_USER_ASSIGNED.client_id]) == 0
    text = capsys.readouterr().out
    assert DEFAULT_USER_ASSIGNED.client_id in text
    assert VAULT in text
    assert "eyJ" not in text


@pytest.mark.parametrize("token", ["opaque", "e30.W10.x"])
def test_whoami_fails_if_the_token_has_no_claims(
    imds_emulator: Emulator, capsys: pytest.CaptureFixture[str], token: str
) -> None:
    body = json.dumps({"access_token": token, "expires_on": "32000000000"})
    imds_emulator.fault(category="identity", status=200, body=body, content_type="application/json")
    assert main(["whoami"]) == 1
    assert token not in capsys.readouterr().err
