"""Broken machines and the doctor's headline for each of them."""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from doctor_rewording import WORDINGS, reword
from imds_identity._core.key import Key
from imds_identity._platform.clock import SYSTEM_CLOCK
from imds_identity._shared_cache.directory import Directory
from imds_identity._shared_cache.rate_limit import rate_limiter_for
from imds_identity._shared_cache.record import Record
from imds_identity._shared_cache.store import SharedCache
from imds_identity._sources.registry import detect
from imds_identity.cli import main
from imds_identity.doctor import SCHEMA, Diagnosis, diagnose
from imds_identity.doctor._facts import gather, service_probe, system
from imds_identity.doctor._facts.facts import Hosting
from imds_identity.doctor.diagnosis import CHECKS
from imds_identity.emulator import DEFAULT_SYSTEM_ASSIGNED, DEFAULT_USER_ASSIGNED, UserAssigned
from imds_identity.emulator._profiles.profiles import MISLEADING_VARIABLES
from support import FakeClock, RawServer, ResponseFactory, TlsServer, new_token

if TYPE_CHECKING:
    from collections.abc import Callable

    from imds_identity.emulator import Emulator

VAULT = "https://vault.azure.net"
TOKEN_PATH = "/metadata/identity/oauth2/token"


@pytest.fixture(autouse=True)
def _no_proxy_or_container(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove proxy settings, and do not detect the host that the tests may run on."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name == "KUBERNETES_SERVICE_HOST":
            monkeypatch.delenv(name)
    monkeypatch.setattr(system, "detect_container", lambda root, environment: "")
    monkeypatch.setattr(gather, "gather_hosting", lambda *_: Hosting())


@pytest.fixture(autouse=True, params=WORDINGS)
def _wording(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    reword(monkeypatch, request.param)


def cause(diagnosis: Diagnosis) -> str:
    assert diagnosis.cause is not None
    return diagnosis.cause.id


def use_emulator(monkeypatch: pytest.MonkeyPatch, emulator: Emulator) -> Emulator:
    for name in MISLEADING_VARIABLES:
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


# Healthy machines.


def test_healthy_vm_has_no_warning(imds_emulator: Emulator) -> None:
    diagnosis = diagnose(VAULT)
    assert diagnosis.status == "ok"
    assert diagnosis.headline.startswith("no fault was found")
    assert {finding.status for finding in diagnosis.findings} <= {"ok", "skipped", "unknown"}
    assert diagnosis.requests == len(imds_emulator.requests) == 2


def test_healthy_arc_server_has_no_warning(arc_emulator: Emulator) -> None:
    diagnosis = diagnose(scope=f"{VAULT}/.default",
                         arc_tokens_directory=arc_emulator.tokens_directory)  # fmt: skip
    assert {finding.status for finding in diagnosis.findings} <= {"ok", "skipped", "unknown"}
    assert diagnosis.requests <= 8


@pytest.mark.parametrize("profile", ["app-service"])
def test_healthy_app_host_has_no_warning(
    profile: str,
    emulator_factory: Callable[..., Emulator],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use_emulator(monkeypatch, emulator_factory(profile))
    assert diagnose(VAULT).status == "ok"


# No service, or another server.


def test_refused_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", f"http://127.0.0.1:{free_port()}")
    diagnosis = diagnose()
    assert cause(diagnosis) == "II023"
    assert "no process listens at 127.0.0.1:" in diagnosis.headline


OTHER_SERVERS = {
    "EC2": (http("401 Unauthorized\r\nServer: EC2ws"), "Amazon EC2"),
    "GCE": (http("403 Forbidden\r\nMetadata-Flavor: Google"), "Google Cloud"),
    "Docker Desktop": (
        http("403 Forbidden", "connecting to 169.254.169.254:80: network is unreachable"),
        "Docker Desktop",
    ),
    "captive portal": (
        http("302 Found\r\nLocation: http://portal.example/login?id=1"), "redirects to portal.exam"
    ),
    "HTML page": (
        http("200 OK\r\nContent-Type: text/html", "<html>Log in</html>"), "with an HTML page"
    ),
    "another cloud": (
        http("404 Not Found\r\nServer: nginx\r\nContent-Type: text/plain", "no such item"),
        "another server (nginx) responds in place of the token service",
    ),
    "transparent proxy": (
        http("503 Service Unavailable\r\nVia: 1.1 cache (squid/6)"),
        "a transparent proxy (1.1 cache (squid/6)",
    ),
    "forwarding proxy": (
        http(
            "400 Bad Request\r\nContent-Type: application/json",
            '{"error": "Bad request. Requests with an X-Forwarded-For header are rejected"}',
        ),
        "adds an X-Forwarded-For header",
    ),
}  # fmt: skip


@pytest.mark.parametrize("other", OTHER_SERVERS)
def test_response_of_another_server(other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    response, headline = OTHER_SERVERS[other]
    with RawServer(response) as server:
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", server.url)
        diagnosis = diagnose()
        assert len(server.requests) == diagnosis.requests <= 8
    assert cause(diagnosis) == "II025"
    assert headline in diagnosis.headline


ENDLESS = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99999\r\n\r\n"


@pytest.mark.parametrize("response", [b"", ENDLESS])
def test_server_that_accepts_connections_and_does_not_respond(
    response: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_probe, "TOTAL_SECONDS", 0.5)
    with RawServer(response, then=b" " * bool(response), every=0.2, hold=True) as server:
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", server.url)
        diagnosis = diagnose()
    assert cause(diagnosis) == "II026"


def test_proxy_without_and_with_no_proxy(
    imds_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://user:s3cret-pass@proxy.example:3128")
    diagnosis = diagnose(VAULT)
    assert (diagnosis.status, cause(diagnosis)) == ("warning", "II024")
    assert "makes other clients send requests for 127.0.0.1 to a proxy" in diagnosis.headline
    assert "s3cret" not in json.dumps(diagnosis.document())
    for no_proxy in ("127.0.0.1", "localhost, 127.0.0.0/8", "*"):
        monkeypatch.setenv("NO_PROXY", no_proxy)
        assert diagnose(VAULT).status == "ok"


# Identities.


def test_machine_without_an_identity(
    emulator_factory: Callable[..., Emulator], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_emulator(monkeypatch, emulator_factory(identities=()))
    diagnosis = diagnose()
    assert cause(diagnosis) == "II050"
    assert diagnosis.headline == "the machine has no managed identity"


def test_several_identities_without_a_selector(
    emulator_factory: Callable[..., Emulator], monkeypatch: pytest.MonkeyPatch
) -> None:
    several = (UserAssigned.named("one"), UserAssigned.named("two"))
    use_emulator(monkeypatch, emulator_factory(identities=several))
    diagnosis = diagnose()
    assert cause(diagnosis) == "II050"
    assert "several user-assigned identities, and the request selects none" in diagnosis.headline


def test_client_id_of_another_identity(imds_emulator: Emulator) -> None:
    diagnosis = diagnose(client_id="00000000-0000-0000-0000-00000000000f")
    assert cause(diagnosis) == "II050"
    assert "no identity with client_id" in diagnosis.headline
    assert "its default identity works" in diagnosis.headline


def test_recreated_identity(
    imds_emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared_cache = create_shared_cache(tmp_path, monkeypatch)
    source = detect()
    resource_id = DEFAULT_USER_ASSIGNED.resource_id
    key = Key(source.name, source.endpoint, "resource_id", resource_id, VAULT)
    old = new_token(SYSTEM_CLOCK, unsigned(oid="the-old-one"))
    shared_cache.write(Record(key, old))
    diagnosis = diagnose(VAULT, resource_id=resource_id)
    assert cause(diagnosis) == "II051"
    assert "was deleted and recreated" in diagnosis.headline
    assert diagnosis.cause
    assert DEFAULT_USER_ASSIGNED.object_id in diagnosis.cause.remedy
    assert diagnose(VAULT, client_id=DEFAULT_USER_ASSIGNED.client_id).status == "ok"


def test_identity_that_does_not_exist_in_the_tenant(imds_emulator: Emulator) -> None:
    error = {"error": "invalid_client", "error_description": "AADSTS700016: Application not found"}
    imds_emulator.fault(status=400, body=json.dumps(error), category="identity")
    diagnosis = diagnose()
    assert cause(diagnosis) == "II051"
    assert "it was deleted, and possibly recreated" in diagnosis.headline


def test_scope_that_is_passed_as_the_resource(imds_emulator: Emulator) -> None:
    diagnosis = diagnose(f"{VAULT}/.default")
    assert (diagnosis.status, cause(diagnosis)) == ("warning", "II005")
    assert f"{VAULT}/.default is a scope, not a resource" in diagnosis.headline
    diagnosis = diagnose("https://graph.microsoft.com/User.Read")
    assert (diagnosis.status, cause(diagnosis)) == ("failure", "II005")
    assert "is a scope, not a resource" in diagnosis.headline
    diagnosis = diagnose("https://nobody.example")
    assert cause(diagnosis) == "II060"
    assert "AADSTS500011: the resource does not exist in the tenant" in diagnosis.headline


# Throttling and updates.


def create_shared_cache(path: Path, monkeypatch: pytest.MonkeyPatch) -> SharedCache:
    directory = path / "shared"
    directory.mkdir(mode=0o700)
    monkeypatch.setenv("IMDS_IDENTITY_CACHE", str(directory))
    return SharedCache(Directory.at(str(directory)), SYSTEM_CLOCK)


def test_throttled_machine(imds_emulator: Emulator) -> None:
    imds_emulator.fault(status=429, retry_after=7)
    diagnosis = diagnose()
    assert cause(diagnosis) == "II041"
    assert "throttles this machine" in diagnosis.headline
    assert diagnosis.requests <= 8


@pytest.mark.skipif(sys.platform == "win32", reason="shared by default on Linux only")
def test_throttled_process_makes_all_processes_wait(
    imds_emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared_cache = create_shared_cache(tmp_path, monkeypatch)
    response = ResponseFactory(FakeClock()).error(429, retry_after="50")
    rate_limiter_for(shared_cache, detect(), lambda: 0.5).observe(response)
    diagnosis = diagnose()
    assert cause(diagnosis) == "II040"
    assert "the service throttled another process of this user" in diagnosis.headline
    assert imds_emulator.token_requests == []  # the doctor waits as well


@pytest.mark.parametrize(
    ("status", "headline"),
    [(410, "available again within 70 seconds"), (500, "is failing"), (404, "being updated")],
)
def test_service_that_is_updating_or_failing(
    imds_emulator: Emulator, status: int, headline: str
) -> None:
    imds_emulator.fault(status=status)
    diagnosis = diagnose()
    assert cause(diagnosis) == "II042"
    assert headline in diagnosis.headline


# Clocks.


@pytest.mark.parametrize(("skew", "direction"), [(600, "slow"), (-600, "fast")])
def test_clock_that_is_ten_minutes_off(imds_emulator: Emulator, skew: int, direction: str) -> None:
    imds_emulator.fault(date_skew=skew, category="*")
    diagnosis = diagnose()
    assert cause(diagnosis) == "II070"
    assert f"clock is 10 minutes {direction}" in diagnosis.headline


# Azure Arc.


def test_stopped_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    set_arc_variables(monkeypatch, free_port())
    diagnosis = diagnose()
    assert cause(diagnosis) == "II030"
    assert "no Azure Arc agent is installed or running" in diagnosis.headline


def set_arc_variables(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"http://localhost:{port}{TOKEN_PATH}")
    monkeypatch.setenv("IMDS_ENDPOINT", f"http://localhost:{port}")


def test_container_without_the_hosts_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "detect_container", lambda root, environment: "Docker")
    set_arc_variables(monkeypatch, free_port())
    diagnosis = diagnose()
    assert cause(diagnosis) == "II015"
    assert "this container has a separate loopback interface" in diagnosis.headline


def test_key_file_outside_the_agents_directory(arc_emulator: Emulator, tmp_path: Path) -> None:
    diagnosis = diagnose(arc_tokens_directory=tmp_path)
    assert cause(diagnosis) == "II033"
    assert "does not name a key file in the Azure Arc agent's directory" in diagnosis.headline


def test_old_agent_that_ignores_the_selector(
    emulator_factory: Callable[..., Emulator], monkeypatch: pytest.MonkeyPatch
) -> None:
    arc = use_emulator(monkeypatch, emulator_factory("arc", arc_agent="older"))
    diagnosis = diagnose(
        client_id=DEFAULT_USER_ASSIGNED.client_id, arc_tokens_directory=arc.tokens_directory
    )
    assert cause(diagnosis) == "II035"
    assert "does not support user-assigned identities" in diagnosis.headline


def test_azure_client_id_on_an_arc_server(
    arc_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_CLIENT_ID", DEFAULT_SYSTEM_ASSIGNED.client_id)
    diagnosis = diagnose(arc_tokens_directory=arc_emulator.tokens_directory)
    assert (diagnosis.status, cause(diagnosis)) == ("warning", "II004")
    assert "AZURE_CLIENT_ID makes DefaultAzureCredential request" in diagnosis.headline


# Variables and workloads.


def test_leftover_msi_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSI_ENDPOINT", f"http://localhost:{free_port()}/oauth2/token")
    diagnosis = diagnose()
    assert cause(diagnosis) == "II002"
    assert "MSI_ENDPOINT is left over" in diagnosis.headline
    assert diagnosis.cause
    assert diagnosis.cause.remedy == "unset MSI_ENDPOINT"


def test_leftover_variable_that_selects_no_source(
    imds_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IDENTITY_HEADER", "s3cret")
    diagnosis = diagnose()
    assert (diagnosis.status, cause(diagnosis)) == ("warning", "II002")
    assert "s3cret" not in json.dumps(diagnosis.document())


def test_endpoint_that_is_not_a_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", "169.254.169.254")
    diagnosis = diagnose()
    assert (cause(diagnosis), diagnosis.requests) == ("II001", 0)


def set_workload_variables(monkeypatch: pytest.MonkeyPatch, token_file: Path) -> None:
    monkeypatch.setenv("AZURE_TENANT_ID", "11111111-1111-1111-1111-111111111111")
    monkeypatch.setenv("AZURE_CLIENT_ID", "22222222-2222-2222-2222-222222222222")
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(token_file))
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", f"https://127.0.0.1:{free_port()}")


def test_workload_without_its_token_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    set_workload_variables(monkeypatch, tmp_path / "token")
    assert "AZURE_FEDERATED_TOKEN_FILE is left over" in diagnose().headline
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    diagnosis = diagnose()
    assert cause(diagnosis) == "II010"
    assert "cannot be used: No such file or directory" in diagnosis.headline


def test_workload_with_an_expired_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(unsigned(exp=int(time.time()) - 60, sub="system:serviceaccount:shop:till"))
    set_workload_variables(monkeypatch, file)
    diagnosis = diagnose()
    assert cause(diagnosis) == "II010"
    assert "the workload's federated token has expired" in diagnosis.headline
    assert diagnosis.cause
    assert "system:serviceaccount:shop:till" in diagnosis.cause.seen


def set_valid_workload(monkeypatch: pytest.MonkeyPatch, folder: Path, authority: str) -> None:
    file = folder / "token"
    file.write_text(unsigned(exp=int(time.time()) + 600, sub="system:serviceaccount:shop:till"))
    set_workload_variables(monkeypatch, file)
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", authority)


def test_certificate_of_an_unknown_issuer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    with TlsServer(tmp_path) as server:
        set_valid_workload(monkeypatch, tmp_path, server.url)
        diagnosis = diagnose()
    assert cause(diagnosis) == "II027"
    assert re.search(r"issued by \S*CN=[^,]+.* is not trusted", diagnosis.headline)


@pytest.mark.parametrize(
    ("response", "headline"),
    [
        (http("407 Proxy Authentication Required"), "requires authentication (HTTP 407)"),
        (http("502 Bad Gateway"), "cannot or may not connect to login.example"),
        (None, "in HTTPS_PROXY cannot be reached"),
    ],
)
def test_proxy_to_microsoft_entra_id_that_fails(
    response: bytes | None, headline: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    set_valid_workload(monkeypatch, tmp_path, "https://login.example")
    with RawServer(response or b"") as server:
        port = server.port if response else free_port()
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:s3cret@127.0.0.1:{port}")
        diagnosis = diagnose()
    assert cause(diagnosis) == "II024"
    assert headline in diagnosis.headline
    assert "s3cret" not in json.dumps(diagnosis.document())


def test_slow_metadata_does_not_use_up_the_time_of_the_token_request(
    imds_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_probe, "_METADATA_SECONDS", 0.1)
    imds_emulator.fault(category="instance", delay=2.0)
    diagnosis = diagnose(VAULT)
    assert diagnosis.status == "ok"
    assert finding_of(diagnosis, "II061") == "ok"


def finding_of(diagnosis: Diagnosis, number: str) -> str:
    return next(found.status for found in diagnosis.findings if found.id == number)


# The cache.


@pytest.mark.skipif(sys.platform == "win32", reason="shared by default on Linux only")
def test_cache_directory_of_another_user(
    imds_emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared_cache = create_shared_cache(tmp_path, monkeypatch)
    assert diagnose().status == "ok"
    if os.geteuid() != 0:
        Path(shared_cache.directory.path).chmod(0o755)
        problem = "it is accessible to other users (mode 755)"
    else:
        os.chown(shared_cache.directory.path, 4711, 4711)
        problem = "it belongs to user 4711"
    diagnosis = diagnose()
    assert (diagnosis.status, cause(diagnosis)) == ("warning", "II080")
    assert problem in diagnosis.headline


def test_cache_argument_is_that_of_a_credential(imds_emulator: Emulator) -> None:
    for cache in (True, False, "off"):
        assert diagnose(cache=cache).status == "ok"


@pytest.mark.skipif(sys.platform == "win32", reason="shared by default on Linux only")
def test_doctor_does_not_write_or_create_files(
    imds_emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMDS_IDENTITY_CACHE", str(tmp_path / "not-there"))
    assert diagnose().status == "ok"
    assert os.listdir(tmp_path) == []
    shared_cache = create_shared_cache(tmp_path, monkeypatch)
    diagnose()
    assert os.listdir(shared_cache.directory.path) == []


# The command.


def test_first_lines_are_the_cause_and_its_fix(
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


def test_output_is_colored_on_a_terminal_unless_no_color_is_set(
    imds_emulator: Emulator,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    main(["doctor"])
    assert capsys.readouterr().out.startswith("\x1b[32mNo fault was found" * (os.name != "nt"))
    for name, value in (("NO_COLOR", "1"), ("TERM", "dumb")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            main(["doctor"])
        assert "\x1b" not in capsys.readouterr().out


def test_healthy_checks_are_one_line_with_their_number(
    imds_emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", VAULT]) == 0
    short = capsys.readouterr().out
    assert not re.search(r"^ok ", short, re.MULTILINE)
    summary = r"^checks: (\d+) ok, \d+ unknown \(-v lists them\)$"
    number = re.search(summary, short, re.MULTILINE)
    assert number is not None
    assert main(["doctor", VAULT, "-v"]) == 0
    assert len(re.findall(r"^ok ", capsys.readouterr().out, re.MULTILINE)) == int(number[1])
    assert main(["doctor", VAULT, "--all"]) == 0
    assert re.search(r"^skipped ", capsys.readouterr().out, re.MULTILINE)


def test_resource_may_be_positional_as_in_token(
    imds_emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    for target in ([VAULT], [f"{VAULT}/.default"], ["--resource", VAULT]):
        assert main(["doctor", *target, "-o", "json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert document["status"] == "ok"
        assert f"aud {VAULT}" in json.dumps(document)


def test_checks_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:5] for line in lines] == sorted(CHECKS)
    assert "II024 proxy settings: http_proxy, all_proxy and no_proxy" in "\n".join(lines)
    assert main(["doctor", "--list", "-o", "json"]) == 0
    checks = json.loads(capsys.readouterr().out)
    assert [check["id"] for check in checks] == sorted(CHECKS)


@pytest.mark.parametrize("name", ["ii024", "AADSTS700016"])
def test_explanation_is_available_as_json(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--explain", name, "-o", "json"]) == 0
    [found] = json.loads(capsys.readouterr().out)
    assert found["id"] == name.upper()
    assert found["page"].endswith(f"#{name.lower()}")
    assert found["remedy"]
    assert main(["doctor", "--explain", "II999", "-o", "json"]) == 2
    assert json.loads(capsys.readouterr().out)["status"] == "error"


def test_one_check_has_its_own_exit_status(
    imds_emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--client-id", "nobody", "--check", "ii024"]) == 0
    assert capsys.readouterr().out.startswith("Proxy settings: no proxy is set")
    assert main(["doctor", "--client-id", "nobody", "--check", "II050", "-o", "json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert [found["id"] for found in document["findings"]] == ["II050"]
    assert main(["doctor", "--check", "II999", "-o", "json"]) == 2
    out, err = capsys.readouterr()
    assert json.loads(out)["status"] == "error"
    assert "unknown check 'II999'" in err


def test_warning_is_a_failure_on_request(
    imds_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    assert main(["doctor", VAULT]) == 0
    assert main(["doctor", VAULT, "--fail-on", "warning"]) == 1


def test_host_name_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_probe, "TOTAL_SECONDS", 1.0)
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://nowhere.invalid")
    diagnosis = diagnose()
    assert cause(diagnosis) == "II023"
    assert "nowhere.invalid" in diagnosis.headline


def test_json_output_is_the_only_output(
    imds_emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--json", "--resource", VAULT, "--short-ids"]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert list(document) == [
        "schema", "version", "status", "headline", "cause", "requests", "findings",
    ]  # fmt: skip
    assert (document["schema"], document["status"], document["cause"]) == (SCHEMA, "ok", None)
    assert list(document["findings"][0]) == [
        "id", "title", "status", "looked_at", "seen", "meaning", "remedy", "link", "category",
        "page",
    ]  # fmt: skip
    assert DEFAULT_SYSTEM_ASSIGNED.object_id not in out
    assert f"oid {DEFAULT_SYSTEM_ASSIGNED.object_id[:4]}…" in next(
        f["seen"] for f in document["findings"] if f["id"] == "II062"
    )
    assert err == ""


def test_no_token_and_no_key_is_shown_or_saved(
    arc_emulator: Emulator, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    directory = arc_emulator.tokens_directory
    assert directory is not None
    saved = tmp_path / "facts.json"
    main(["doctor", "--json", "--arc-tokens-directory", str(directory), "--resource", VAULT,
          "--save", str(saved)])  # fmt: skip
    out, _ = capsys.readouterr()
    assert main(["doctor", "--json", "--facts", str(saved)]) == 0
    assert capsys.readouterr().out == out
    out += saved.read_text()
    [token] = arc_emulator.issued_tokens
    assert token.value not in out
    assert token.value.split(".")[1] not in out
    for file in directory.iterdir():
        assert file.read_text() not in out


def test_invalid_argument_has_exit_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--cache", "half-a-path"]) == 2
    assert main(["doctor", "--explain", "II999"]) == 2
    assert "unknown check or code" in capsys.readouterr().err


def test_explanations_of_checks_and_codes(capsys: pytest.CaptureFixture[str]) -> None:
    for name, text in (("II021", "ip rule"), ("aadsts700213", "subject"), ("AKV10022", "slash")):
        assert main(["doctor", "--explain", name]) == 0
        assert text in capsys.readouterr().out


def test_failed_token_command_suggests_the_doctor(
    imds_emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["token", VAULT, "--client-id", "nobody"]) == 3
    err = capsys.readouterr().err
    assert err.splitlines()[-1].endswith(
        f"imds-identity doctor --resource {VAULT} --client-id nobody"
    )


def test_token_and_doctor_name_the_resource_that_was_meant(
    imds_emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["token", "vault"]) == 4
    assert "did you mean https://vault.azure.net?" in capsys.readouterr().err
    diagnosis = diagnose("vault")
    assert cause(diagnosis) == "II005"
    assert diagnosis.cause is not None
    assert diagnosis.cause.remedy == "imds-identity doctor --resource https://vault.azure.net"


@pytest.mark.parametrize(
    "command",
    [
        ["whoami", VAULT],
        ["secret", f"{VAULT.replace('vault.azure.net', 'v.vault.azure.net')}/secrets/s"],
        ["rest", "GET", "https://v.vault.azure.net/secrets"],
    ],
)
def test_every_command_that_requests_a_token_suggests_the_doctor(
    command: list[str], imds_emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--client-id", "nobody"]) == 3
    err = capsys.readouterr().err
    assert f"imds-identity doctor --resource {VAULT} --client-id nobody" in err
