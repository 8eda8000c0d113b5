"""Broken machines, each built for real, and what the doctor's first line says of them."""

from __future__ import annotations

import base64
import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from imds_identity._core.key import Key
from imds_identity._platform.clock import SYSTEM_CLOCK
from imds_identity._shared_cache.directory import Directory
from imds_identity._shared_cache.rate_limit import rate_limiter_for
from imds_identity._shared_cache.record import Record
from imds_identity._shared_cache.store import SharedCache
from imds_identity._sources.registry import detect
from imds_identity.cli import main
from imds_identity.doctor import SCHEMA, Diagnosis, diagnose
from imds_identity.doctor._facts import contact, system
from imds_identity.emulator import DEFAULT_SYSTEM_ASSIGNED, DEFAULT_USER_ASSIGNED, UserAssigned
from imds_identity.emulator._profiles.profiles import MISLEADING
from support import FakeClock, RawServer, ResponseFactory, token_now

if TYPE_CHECKING:
    from collections.abc import Callable

    from imds_identity.emulator import Emulator

VAULT = "https://vault.azure.net"
TOKEN_PATH = "/metadata/identity/oauth2/token"


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy, and no container: the tests may run in one."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name == "KUBERNETES_SERVICE_HOST":
            monkeypatch.delenv(name)
    monkeypatch.setattr(system, "container_in", lambda root, environment: "")


def cause(diagnosis: Diagnosis) -> str:
    assert diagnosis.cause is not None
    return diagnosis.cause.id


def led_to(monkeypatch: pytest.MonkeyPatch, emulator: Emulator) -> Emulator:
    for name in MISLEADING:
        monkeypatch.delenv(name, raising=False)
    for name, value in emulator.environment().items():
        monkeypatch.setenv(name, value)
    return emulator


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def http(head: str, body: str = "") -> bytes:
    return f"HTTP/1.1 {head}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def unsigned(**claims: Any) -> str:
    parts = ({"alg": "none"}, claims)
    return (
        ".".join(
            base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
            for part in parts
        )
        + "."
    )


# A machine on which all is well.


def test_a_healthy_vm_gives_no_cause_to_warn(imds_emulator: Emulator) -> None:
    diagnosis = diagnose(VAULT)
    assert diagnosis.status == "ok"
    assert diagnosis.headline.startswith("no fault was found")
    assert {finding.status for finding in diagnosis.findings} <= {"ok", "skipped", "unknown"}
    assert diagnosis.requests == len(imds_emulator.requests) == 2


def test_a_healthy_arc_server_gives_no_cause_to_warn(arc_emulator: Emulator) -> None:
    diagnosis = diagnose(scope=f"{VAULT}/.default",
                         arc_tokens_directory=arc_emulator.tokens_directory)  # fmt: skip
    assert {finding.status for finding in diagnosis.findings} <= {"ok", "skipped", "unknown"}
    assert diagnosis.requests <= 8


@pytest.mark.parametrize("profile", ["app-service"])
def test_a_healthy_app_host_gives_no_cause_to_warn(
    profile: str,
    emulator_factory: Callable[..., Emulator],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    led_to(monkeypatch, emulator_factory(profile))
    assert diagnose(VAULT).status == "ok"


# Nobody there, or somebody else.


def test_a_refused_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", f"http://127.0.0.1:{free_port()}")
    diagnosis = diagnose()
    assert cause(diagnosis) == "II023"
    assert "nobody listens at 127.0.0.1:" in diagnosis.headline


OTHERS = {
    "EC2": (http("401 Unauthorized\r\nServer: EC2ws"), "Amazon EC2"),
    "GCE": (http("403 Forbidden\r\nMetadata-Flavor: Google"), "Google Cloud"),
    "Docker Desktop": (
        http("403 Forbidden", "connecting to 169.254.169.254:80: network is unreachable"),
        "Docker Desktop",
    ),
    "captive portal": (
        http("302 Found\r\nLocation: http://portal.example/login?id=1"), "redirects to portal.exam"
    ),
    "a page": (http("200 OK\r\nContent-Type: text/html", "<html>Log in</html>"), "page of HTML"),
    "another cloud": (
        http("404 Not Found\r\nServer: nginx\r\nContent-Type: text/plain", "no such item"),
        "something else (nginx) answers in place of Azure's metadata service",
    ),
    "transparent proxy": (
        http("503 Service Unavailable\r\nVia: 1.1 cache (squid/6)"), "a proxy (1.1 cache (squid/6)"
    ),
    "forwarding proxy": (
        http(
            "400 Bad Request\r\nContent-Type: application/json",
            '{"error": "Bad request. Requests with an X-Forwarded-For header are rejected"}',
        ),
        "adds an X-Forwarded-For header",
    ),
}  # fmt: skip


@pytest.mark.parametrize("who", OTHERS)
def test_somebody_else_answers(who: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answer, said = OTHERS[who]
    with RawServer(answer) as server:
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", server.url)
        diagnosis = diagnose()
        assert len(server.requests) == diagnosis.requests <= 8
    assert cause(diagnosis) == "II025"
    assert said in diagnosis.headline


ENDLESS = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99999\r\n\r\n"


@pytest.mark.parametrize("answer", [b"", ENDLESS])
def test_somebody_takes_connections_and_is_silent(
    answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contact, "SECONDS", 0.5)
    with RawServer(answer, then=b" " * bool(answer), every=0.2, hold=True) as server:
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", server.url)
        diagnosis = diagnose()
    assert cause(diagnosis) == "II026"


def test_a_proxy_without_and_with_no_proxy(
    imds_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://user:s3cret-pass@proxy.example:3128")
    diagnosis = diagnose(VAULT)
    assert (diagnosis.status, cause(diagnosis)) == ("warning", "II024")
    assert "sends other clients' requests for 127.0.0.1 to a proxy" in diagnosis.headline
    assert "s3cret" not in json.dumps(diagnosis.document())
    for spared in ("127.0.0.1", "localhost, 127.0.0.0/8", "*"):
        monkeypatch.setenv("NO_PROXY", spared)
        assert diagnose(VAULT).status == "ok"


# Identities.


def test_no_identity(
    emulator_factory: Callable[..., Emulator], monkeypatch: pytest.MonkeyPatch
) -> None:
    led_to(monkeypatch, emulator_factory(identities=()))
    diagnosis = diagnose()
    assert cause(diagnosis) == "II050"
    assert diagnosis.headline == "the machine has no managed identity"


def test_several_identities_and_none_named(
    emulator_factory: Callable[..., Emulator], monkeypatch: pytest.MonkeyPatch
) -> None:
    several = (UserAssigned.named("one"), UserAssigned.named("two"))
    led_to(monkeypatch, emulator_factory(identities=several))
    diagnosis = diagnose()
    assert cause(diagnosis) == "II050"
    assert "several user-assigned identities and none was named" in diagnosis.headline


def test_a_wrong_client_id(imds_emulator: Emulator) -> None:
    diagnosis = diagnose(client_id="00000000-0000-0000-0000-00000000000f")
    assert cause(diagnosis) == "II050"
    assert "no identity with client_id" in diagnosis.headline
    assert "needs no selector gets its token" in diagnosis.headline


def test_a_recreated_identity(
    imds_emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = shared_in(tmp_path, monkeypatch)
    source = detect()
    resource_id = DEFAULT_USER_ASSIGNED.resource_id
    key = Key(source.name, source.endpoint, "resource_id", resource_id, VAULT)
    old = token_now(SYSTEM_CLOCK, unsigned(oid="the-old-one"))
    machine.write(Record(key, old))
    diagnosis = diagnose(VAULT, resource_id=resource_id)
    assert cause(diagnosis) == "II051"
    assert "was deleted and made anew" in diagnosis.headline
    assert diagnosis.cause
    assert DEFAULT_USER_ASSIGNED.object_id in diagnosis.cause.remedy
    assert diagnose(VAULT, client_id=DEFAULT_USER_ASSIGNED.client_id).status == "ok"


def test_an_identity_that_the_tenant_does_not_know(imds_emulator: Emulator) -> None:
    said = {"error": "invalid_client", "error_description": "AADSTS700016: Application not found"}
    imds_emulator.fault(status=400, body=json.dumps(said), category="identity")
    diagnosis = diagnose()
    assert cause(diagnosis) == "II051"
    assert "it was deleted, and maybe made anew" in diagnosis.headline


def test_a_scope_that_is_sent_as_resource(imds_emulator: Emulator) -> None:
    diagnosis = diagnose(f"{VAULT}/.default")
    assert (diagnosis.status, cause(diagnosis)) == ("warning", "II005")
    assert f"{VAULT}/.default is a scope and no resource" in diagnosis.headline
    diagnosis = diagnose("https://graph.microsoft.com/User.Read")
    assert (diagnosis.status, cause(diagnosis)) == ("failure", "II005")
    assert "is no resource but a scope" in diagnosis.headline
    diagnosis = diagnose("https://nobody.example")
    assert cause(diagnosis) == "II060"
    assert "AADSTS500011: the tenant knows no such resource" in diagnosis.headline


# Throttling and updates.


def shared_in(path: Path, monkeypatch: pytest.MonkeyPatch) -> SharedCache:
    directory = path / "shared"
    directory.mkdir(mode=0o700)
    monkeypatch.setenv("IMDS_IDENTITY_CACHE", str(directory))
    return SharedCache(Directory.at(str(directory)), SYSTEM_CLOCK)


def test_a_storm_of_429(imds_emulator: Emulator) -> None:
    imds_emulator.fault(status=429, retry_after=7)
    diagnosis = diagnose()
    assert cause(diagnosis) == "II041"
    assert "throttles this machine" in diagnosis.headline
    assert diagnosis.requests <= 8


@pytest.mark.skipif(sys.platform == "win32", reason="shared by default on Linux only")
def test_another_process_was_told_to_pause(
    imds_emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = shared_in(tmp_path, monkeypatch)
    answer = ResponseFactory(FakeClock()).error(429, retry_after="50")
    rate_limiter_for(machine, detect(), lambda: 0.5).observe(answer)
    diagnosis = diagnose()
    assert cause(diagnosis) == "II040"
    assert "another process of this user was throttled" in diagnosis.headline
    assert imds_emulator.token_requests == []  # the doctor keeps the pause, too


@pytest.mark.parametrize(
    ("status", "said"), [(410, "back within 70 seconds"), (500, "is ill"), (404, "being updated")]
)
def test_a_service_that_is_not_up(imds_emulator: Emulator, status: int, said: str) -> None:
    imds_emulator.fault(status=status)
    diagnosis = diagnose()
    assert cause(diagnosis) == "II042"
    assert said in diagnosis.headline


# Clocks.


@pytest.mark.parametrize(("skew", "said"), [(600, "slow"), (-600, "fast")])
def test_a_clock_that_is_ten_minutes_off(imds_emulator: Emulator, skew: int, said: str) -> None:
    imds_emulator.fault(date_skew=skew, category="*")
    diagnosis = diagnose()
    assert cause(diagnosis) == "II070"
    assert f"clock is 10 minutes {said}" in diagnosis.headline


# Azure Arc.


def test_a_stopped_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    on_arc(monkeypatch, free_port())
    diagnosis = diagnose()
    assert cause(diagnosis) == "II030"
    assert "no Azure Arc agent runs" in diagnosis.headline


def on_arc(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"http://localhost:{port}{TOKEN_PATH}")
    monkeypatch.setenv("IMDS_ENDPOINT", f"http://localhost:{port}")


def test_a_container_without_the_hosts_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "container_in", lambda root, environment: "Docker")
    on_arc(monkeypatch, free_port())
    diagnosis = diagnose()
    assert cause(diagnosis) == "II015"
    assert "this container has a loopback of its own" in diagnosis.headline


def test_a_key_in_the_wrong_place(arc_emulator: Emulator, tmp_path: Path) -> None:
    diagnosis = diagnose(arc_tokens_directory=tmp_path)
    assert cause(diagnosis) == "II033"
    assert "names a key file that is not where the agent keeps them" in diagnosis.headline


def test_an_old_agent_that_ignores_the_selector(
    emulator_factory: Callable[..., Emulator], monkeypatch: pytest.MonkeyPatch
) -> None:
    arc = led_to(monkeypatch, emulator_factory("arc", arc_agent="older"))
    diagnosis = diagnose(
        client_id=DEFAULT_USER_ASSIGNED.client_id, arc_tokens_directory=arc.tokens_directory
    )
    assert cause(diagnosis) == "II035"
    assert "no support for user-assigned identities" in diagnosis.headline


def test_azure_client_id_on_an_arc_server(
    arc_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_CLIENT_ID", DEFAULT_SYSTEM_ASSIGNED.client_id)
    diagnosis = diagnose(arc_tokens_directory=arc_emulator.tokens_directory)
    assert (diagnosis.status, cause(diagnosis)) == ("warning", "II004")
    assert "AZURE_CLIENT_ID makes DefaultAzureCredential ask" in diagnosis.headline


# Variables and workloads.


def test_a_left_over_msi_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSI_ENDPOINT", f"http://localhost:{free_port()}/oauth2/token")
    diagnosis = diagnose()
    assert cause(diagnosis) == "II002"
    assert "MSI_ENDPOINT is left over" in diagnosis.headline
    assert diagnosis.cause
    assert diagnosis.cause.remedy == "unset MSI_ENDPOINT"


def test_half_a_host_that_is_left_over(
    imds_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IDENTITY_HEADER", "s3cret")
    diagnosis = diagnose()
    assert (diagnosis.status, cause(diagnosis)) == ("warning", "II002")
    assert "s3cret" not in json.dumps(diagnosis.document())


def test_an_endpoint_that_is_no_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", "169.254.169.254")
    diagnosis = diagnose()
    assert (cause(diagnosis), diagnosis.requests) == ("II001", 0)


def workload(monkeypatch: pytest.MonkeyPatch, token_file: Path) -> None:
    monkeypatch.setenv("AZURE_TENANT_ID", "11111111-1111-1111-1111-111111111111")
    monkeypatch.setenv("AZURE_CLIENT_ID", "22222222-2222-2222-2222-222222222222")
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(token_file))
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", f"https://127.0.0.1:{free_port()}")


def test_a_workload_without_its_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    workload(monkeypatch, tmp_path / "token")
    diagnosis = diagnose()
    assert cause(diagnosis) == "II010"
    assert "cannot be used: No such file or directory" in diagnosis.headline


def test_a_workload_whose_token_has_expired(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text(unsigned(exp=int(time.time()) - 60, sub="system:serviceaccount:shop:till"))
    workload(monkeypatch, file)
    diagnosis = diagnose()
    assert cause(diagnosis) == "II010"
    assert "the workload's own token has expired" in diagnosis.headline
    assert diagnosis.cause
    assert "system:serviceaccount:shop:till" in diagnosis.cause.seen


# The cache.


@pytest.mark.skipif(sys.platform == "win32", reason="shared by default on Linux only")
def test_a_directory_of_another_user(
    imds_emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = shared_in(tmp_path, monkeypatch)
    assert diagnose().status == "ok"
    if os.geteuid() != 0:
        Path(machine.directory.path).chmod(0o755)
        said = "others may enter it: its mode is 755"
    else:
        os.chown(machine.directory.path, 4711, 4711)
        said = "it belongs to user 4711"
    diagnosis = diagnose()
    assert (diagnosis.status, cause(diagnosis)) == ("warning", "II080")
    assert said in diagnosis.headline


def test_sharing_is_named_as_a_credential_has_it(imds_emulator: Emulator) -> None:
    for cache in (True, False, "off"):
        assert diagnose(cache=cache).status == "ok"


@pytest.mark.skipif(sys.platform == "win32", reason="shared by default on Linux only")
def test_nothing_is_written_or_made(
    imds_emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMDS_IDENTITY_CACHE", str(tmp_path / "not-there"))
    assert diagnose().status == "ok"
    assert os.listdir(tmp_path) == []
    machine = shared_in(tmp_path, monkeypatch)
    diagnose()
    assert os.listdir(machine.directory.path) == []


# The command.


def test_the_first_line_is_the_cause_and_how_to_mend_it(
    imds_emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--client-id", "nobody"]) == 1
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].startswith("The machine has no identity with client_id 'nobody'")
    assert lines[1].startswith("  fix: az vm identity show --subscription ")
    assert lines[2] == "  more: imds-identity doctor --explain II050"
    assert len(lines) < 40
    assert err == ""
    assert "\x1b" not in out


def test_a_terminal_gets_colour_unless_it_says_no(
    imds_emulator: Emulator,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    main(["doctor"])
    assert capsys.readouterr().out.startswith("\x1b[32mNo fault was found" * (os.name != "nt"))
    monkeypatch.setenv("NO_COLOR", "1")
    main(["doctor"])
    assert "\x1b" not in capsys.readouterr().out


def test_a_name_that_leads_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contact, "SECONDS", 1.0)
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://nowhere.invalid")
    diagnosis = diagnose()
    assert cause(diagnosis) == "II023"
    assert "nowhere.invalid" in diagnosis.headline


def test_json_is_alone_on_standard_output(
    imds_emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--json", "--resource", VAULT, "--short-ids"]) == 0
    out, err = capsys.readouterr()
    said = json.loads(out)
    assert list(said) == [
        "schema", "version", "status", "headline", "cause", "requests", "findings",
    ]  # fmt: skip
    assert (said["schema"], said["status"], said["cause"]) == (SCHEMA, "ok", None)
    assert list(said["findings"][0]) == [
        "id", "title", "status", "looked_at", "seen", "meaning", "remedy", "link",
    ]  # fmt: skip
    assert DEFAULT_SYSTEM_ASSIGNED.object_id not in out
    assert (
        f"oid {DEFAULT_SYSTEM_ASSIGNED.object_id[:4]}…"
        in json.loads(out)["findings"][[f["id"] for f in said["findings"]].index("II062")]["seen"]
    )
    assert err == ""


def test_no_token_and_no_key_is_shown(
    arc_emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = arc_emulator.tokens_directory
    assert directory is not None
    main(["doctor", "--json", "--arc-tokens-directory", str(directory), "--resource", VAULT])
    out, _ = capsys.readouterr()
    [token] = arc_emulator.issued_tokens
    assert token.value not in out
    assert token.value.split(".")[1] not in out
    for file in directory.iterdir():
        assert file.read_text() not in out


def test_what_cannot_run_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--cache", "half-a-path"]) == 2
    assert main(["doctor", "--explain", "II999"]) == 2
    assert "there is no check or code" in capsys.readouterr().err


def test_a_check_and_a_code_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    for asked, said in (("II021", "ip rule"), ("aadsts700213", "subject"), ("AKV10022", "slash")):
        assert main(["doctor", "--explain", asked]) == 0
        assert said in capsys.readouterr().out


def test_a_token_that_is_not_given_ends_with_a_hint(
    imds_emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["token", VAULT, "--client-id", "nobody"]) == 1
    err = capsys.readouterr().err
    assert err.splitlines()[-1].endswith(
        f"imds-identity doctor --resource {VAULT} --client-id nobody"
    )


@pytest.mark.parametrize(
    "command",
    [
        ["whoami", VAULT],
        ["secret", f"{VAULT.replace('vault.azure.net', 'v.vault.azure.net')}/secrets/s"],
        ["rest", "GET", "https://v.vault.azure.net/secrets"],
    ],
)
def test_every_command_that_needs_a_token_ends_with_the_hint(
    command: list[str], imds_emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--client-id", "nobody"]) == 1
    err = capsys.readouterr().err
    assert f"imds-identity doctor --resource {VAULT} --client-id nobody" in err
