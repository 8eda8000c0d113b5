"""The command line, in this process and in its own."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import jwt
import pytest

from imds_identity._token_cache.process import process_token_cache
from imds_identity.cli import COMMANDS
from imds_identity.emulator import DEFAULT_USER_ASSIGNED, Emulator

VAULT = "https://vault.azure.net"


def test_text_output_is_the_token_only(imds_emulator: Emulator, run_cli: Any) -> None:
    status, out, err = run_cli("token", f"{VAULT}/.default")
    assert (status, err) == (0, "")
    assert jwt.decode(out.strip(), options={"verify_signature": False})["aud"] == VAULT
    assert out.count("\n") == 1


def test_json_output_has_the_fields_of_az(imds_emulator: Emulator, run_cli: Any) -> None:
    status, out, _ = run_cli("token", VAULT, "--output", "json")
    fields = json.loads(out)
    claims = jwt.decode(fields["accessToken"], options={"verify_signature": False})
    assert status == 0
    assert list(fields) == [
        "accessToken",
        "expiresOn",
        "expires_on",
        "subscription",
        "tenant",
        "tokenType",
    ]
    assert fields["expires_on"] == claims["exp"]
    assert fields["tenant"] == claims["tid"]
    assert fields["subscription"] == claims["xms_mirid"].split("/")[2]
    assert fields["tokenType"] == "Bearer"
    local = datetime.strptime(fields["expiresOn"], "%Y-%m-%d %H:%M:%S.%f").astimezone()
    assert local.timestamp() == claims["exp"]


def test_fresh_token_replaces_the_cached_one(
    imds_emulator: Emulator, run_cli: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("IMDS_IDENTITY_CACHE", str(tmp_path / "cache"))

    def token(*flags: str) -> str:
        process_token_cache().clear()  # as in a new process
        status, out, err = run_cli("token", VAULT, *flags)
        assert (status, err) == (0, "")
        return str(out)

    imds_emulator.advance_clock(3600)  # the cached token seems to be issued in the future
    old, fresh = token(), token("--fresh")
    assert old != fresh
    assert token() == fresh
    assert token("--fresh") != fresh  # also within the same second
    bypassed = [each.query.get("bypass_cache") for each in imds_emulator.token_requests]
    assert bypassed == [None, "true", "true"]


def test_header_output_is_an_authorization_header(imds_emulator: Emulator, run_cli: Any) -> None:
    _, token, _ = run_cli("token", VAULT)
    assert run_cli("token", VAULT, "--output", "header") == (
        0,
        f"Authorization: Bearer {token}",
        "",
    )


@pytest.mark.parametrize("flags", [("--resource", VAULT), ("--scope", f"{VAULT}/.default")])
def test_flags_of_az_are_supported(
    imds_emulator: Emulator, run_cli: Any, flags: tuple[str, str]
) -> None:
    status, out, err = run_cli("token", *flags, "-o", "claims")
    assert (status, err) == (0, "")
    assert json.loads(out)["aud"] == VAULT


def test_claims_output_omits_the_token(imds_emulator: Emulator, run_cli: Any) -> None:
    _, token, _ = run_cli("token", VAULT)
    _, out, _ = run_cli("token", VAULT, "--output", "claims")
    assert json.loads(out) == jwt.decode(token.strip(), options={"verify_signature": False})
    assert not any(part in out for part in token.strip().split("."))


def test_opaque_token_has_no_claims(imds_emulator: Emulator, run_cli: Any) -> None:
    body = json.dumps({"access_token": "opaque", "expires_on": "32000000000"})
    imds_emulator.fault(category="identity", status=200, body=body, content_type="application/json")
    status, out, err = run_cli("token", VAULT, "-o", "claims")
    assert (status, out) == (1, "")
    assert "is not a JWT" in err
    assert "opaque" not in err


def test_directory_of_arc_key_files_can_be_set(
    arc_emulator: Emulator, run_cli: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    directory = str(arc_emulator.tokens_directory)
    status, out, _ = run_cli("token", VAULT, "--source", "arc", "--arc-tokens-directory", directory)
    assert (status, out.count("\n")) == (0, 1)


def test_cache_directory_can_be_set(imds_emulator: Emulator, run_cli: Any, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    for _ in range(2):
        assert run_cli("token", VAULT, "--cache", str(shared))[0] == 0
    assert list(shared.iterdir())
    assert run_cli("cache", "show", "--cache", str(shared))[1].startswith("1 in ")


@pytest.mark.parametrize(
    "claims",
    [
        '{"tid": ["a"], "xms_mirid": {}}',
        '{"xms_mirid": "/subscriptions"}',
        "[" * 40_000,
        "[]",
        "7",
        "",
    ],
)
def test_token_with_invalid_claims_is_printed(
    imds_emulator: Emulator, run_cli: Any, claims: str
) -> None:
    token = f"eyJ9.{base64.urlsafe_b64encode(claims.encode()).decode()}.x"
    body = json.dumps({"access_token": token, "expires_on": "32000000000"})
    imds_emulator.fault(category="identity", status=200, body=body, content_type="application/json")
    status, out, err = run_cli("token", VAULT, "--output", "json")
    fields = json.loads(out)
    assert (status, err) == (0, "")
    assert (fields["accessToken"], fields["tenant"], fields["subscription"]) == (token, None, None)


def test_service_cannot_inject_headers(imds_emulator: Emulator, run_cli: Any) -> None:
    response = {
        "access_token": "t",
        "expires_on": "32000000000",
        "token_type": "X\r\nX-Evil: 1\r\nY:",
    }
    body = json.dumps(response)
    imds_emulator.fault(category="identity", status=200, body=body, content_type="application/json")
    status, out, err = run_cli("token", VAULT, "--output", "header")
    assert (status, out) == (1, "")
    assert "token_type is not Bearer" in err
    assert "Evil" not in err


def test_no_example_has_a_token_on_a_command_line() -> None:
    root = Path(__file__).parents[2]
    pages = "".join(
        path.read_text("utf-8") for path in [root / "README.md", *root.glob("docs/**/*.md")]
    )
    assert re.search(r"--output header \|\s+curl -s -H @-", pages)
    assert "$(imds-identity token" not in pages


@pytest.mark.skipif(shutil.which("sh") is None, reason="needs a POSIX shell")
def test_env_output_can_be_evaluated_by_a_shell(imds_emulator: Emulator, run_cli: Any) -> None:
    _, token, _ = run_cli("token", VAULT)
    _, lines, _ = run_cli("token", VAULT, "--output", "env")
    shell = subprocess.run(
        ["sh", "-c", f"{lines}\necho $AZURE_ACCESS_TOKEN $AZURE_ACCESS_TOKEN_EXPIRES_ON"],
        capture_output=True,
        text=True,
        check=True,
    )  # fmt: skip
    value, expires_on = shell.stdout.split()
    assert value == token.strip()
    assert int(expires_on) == jwt.decode(value, options={"verify_signature": False})["exp"]


@pytest.mark.parametrize("version", [None, "v1", "v1beta1"])
def test_exec_credential_has_the_version_that_kubectl_requests(
    imds_emulator: Emulator, run_cli: Any, monkeypatch: pytest.MonkeyPatch, version: str | None
) -> None:
    if version:
        requested = {
            "apiVersion": f"client.authentication.k8s.io/{version}",
            "kind": "ExecCredential",
        }
        monkeypatch.setenv("KUBERNETES_EXEC_INFO", json.dumps(requested))
    credential = json.loads(run_cli("token", VAULT, "--output", "exec-credential")[1])
    assert credential["apiVersion"] == f"client.authentication.k8s.io/{version or 'v1'}"
    assert credential["kind"] == "ExecCredential"
    expiry = datetime.strptime(credential["status"]["expirationTimestamp"], "%Y-%m-%dT%H:%M:%S%z")
    claims = jwt.decode(credential["status"]["token"], options={"verify_signature": False})
    assert expiry.timestamp() == claims["exp"]


@pytest.mark.parametrize("selector", ["client_id", "object_id", "resource_id"])
def test_user_assigned_identity(imds_emulator: Emulator, run_cli: Any, selector: str) -> None:
    flag = f"--{selector.replace('_', '-')}"
    _, out, _ = run_cli("token", VAULT, flag, getattr(DEFAULT_USER_ASSIGNED, selector))
    claims = jwt.decode(out.strip(), options={"verify_signature": False})
    assert claims["oid"] == DEFAULT_USER_ASSIGNED.object_id


def test_without_arguments_it_lists_the_commands(run_cli: Any) -> None:
    status, out, err = run_cli()
    assert (status, out) == (2, "")
    assert "print a managed identity's token" in err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["token"],
        ["token", ""],
        ["token", "a b"],
        ["token", "x", "--client-id", ""],
        ["token", "x", "--client-id", "a", "--object-id", "b"],
        ["token", "x", "--output", "yaml"],
        ["token", "x", "--resource", "y"],
        ["token", "--resource", "x", "--scope", "y"],
        ["token", "x", "--out", "json"],
        ["token", "x", "--cache", "tokens"],
        ["token", "x", "--source", "elsewhere"],
        ["nonsense"],
        ["cache", "show", "--directory", ""],
    ],
)
def test_wrong_usage_has_exit_status_2_and_a_message(run_cli: Any, arguments: list[str]) -> None:
    status, out, err = run_cli(*arguments)
    assert (status, out) == (2, "")
    assert "imds-identity" in err
    assert "Traceback" not in err


def test_unknown_identity_has_exit_status_3_and_a_message(
    imds_emulator: Emulator, run_cli: Any
) -> None:
    status, out, err = run_cli("token", VAULT, "--client-id", "nobody")
    assert (status, out) == (3, "")
    assert err.startswith("imds-identity: the service returned HTTP 400")
    assert "nobody" in err
    assert "to diagnose this, run: imds-identity doctor" in err.splitlines()[-1]


@pytest.mark.parametrize(
    "arguments",
    [
        ["attested", "--verify", "{}"],
        ["events", "--follow", "--state", "/no/{}"],
        ["token", "https://vault.azure.net", "{}"],
        ["token", "https://vault.azure.net", "--client-id=x", "--cache=/no/{}"],
        ["secret", "kv://{}/name", "--show"],
        ["{}"],
    ],
)
def test_no_message_contains_control_characters(
    imds_emulator: Emulator, run_cli: Any, arguments: list[str]
) -> None:
    """Another user can name a file so that a terminal obeys the name."""
    hostile = "\x1b]0;title\x07\x1b[31m\x9b31m\r\u202e"
    status, _, error = run_cli(*(each.replace("{}", hostile) for each in arguments))
    assert status != 0
    assert "31m" in error
    assert [c for c in error if not c.isprintable() and c != "\n"] == []


def test_unexpected_error_has_no_traceback(run_cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise ZeroDivisionError("Bearer eyJhbGciOiJIUzI1NiJ9.e30.c2ln")

    monkeypatch.setattr("imds_identity._token_cache.client.TokenClient.token", fail)
    status, out, err = run_cli("token", VAULT)
    assert (status, out) == (1, "")
    assert err == "imds-identity: unexpected error: <hidden>\n"
    assert "(ZeroDivisionError)" in run_cli("token", VAULT, "-v")[2]


def process(*arguments: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "imds_identity", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, **settings
    )


def test_token_is_printed_without_importing_azure_core_or_tools(imds_emulator: Emulator) -> None:
    script = (
        "import sys; from imds_identity.cli import main; status = main(sys.argv[1:]);"
        "tools = ('imds_identity.emulator', 'imds_identity.doctor', 'imds_identity.metadata');"
        "found = [m for m in ('azure.core', 'msal', 'asyncio', *tools) if m in sys.modules];"
        "print(status, found)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "token", VAULT], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[1] == "0 []"


EXIT_HANDLER = """
import atexit, sys, threading
from imds_identity.cli import program
finish = threading.Event()
atexit.register(print, "exit handler")
threading.Thread(target=lambda: (finish.wait(60), print("thread"))).start()
status = program()
finish.set()
sys.exit(status)
"""


@pytest.mark.parametrize(
    ("words", "status"), [(["token", VAULT], 0), (["token", "no resource"], 2)]
)
def test_process_exits_normally(words: list[str], status: int, imds_emulator: Emulator) -> None:
    done = subprocess.run(
        [sys.executable, "-c", EXIT_HANDLER, *words],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.startswith("eyJ")] == ["thread", "exit handler"]
    assert len(lines) - 2 == (status == 0)


def test_broken_pipe_has_no_traceback(imds_emulator: Emulator) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "imds_identity", "token", VAULT]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_demo_runs_on_both_hosts() -> None:
    done = process("demo")
    assert done.returncode == 0, done.stderr
    assert "greeting = 'hello from the vault, an Azure VM'" in done.stdout
    assert "greeting = 'hello from the vault, an Azure Arc server'" in done.stdout
    assert done.stdout.count("-> 200") == 2
    assert done.stdout.count("-> 401") == 1


def test_version_and_help() -> None:
    assert process("--version").stdout.startswith("imds-identity 0.")
    for command in ("token", "demo", "emulator"):
        assert process(command, "--help").returncode == 0


def test_verbose_logs_to_standard_error(imds_emulator: Emulator) -> None:
    """The last lines are not lost when the process ends."""
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-m", "imds_identity", "token", VAULT, "-v", "--cache", "off"],
            capture_output=True, text=True, check=True, timeout=60,
            env={**os.environ, **imds_emulator.environment()},
        )  # fmt: skip
        log = done.stderr.splitlines()
        assert all(line.startswith("imds-identity: ") for line in log)
        assert [
            words
            for words in ("tokens come from", ": 200, ", "fetched a token for")
            if not any(words in line for line in log)
        ] == []
        assert done.stdout.strip() not in done.stderr


def test_without_verbose_nothing_is_logged(imds_emulator: Emulator, run_cli: Any) -> None:
    run_cli("token", VAULT, "-v", "--cache", "off")
    assert run_cli("token", VAULT, "--cache", "off")[2] == ""


def test_help_lists_each_command_with_its_purpose(run_cli: Any) -> None:
    lines = run_cli("--help")[1].splitlines()
    for name, purpose in COMMANDS.items():
        [line] = [each for each in lines if each.split()[:1] == [name]]
        assert line.endswith(f" {purpose}")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_breaks_no_flag_or_url_at_a_hyphen(run_cli: Any, name: str) -> None:
    assert not re.findall(r"\w-$", run_cli(name, "--help")[1], re.MULTILINE)
