"""The command line, in this process and as a process of its own."""

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

from imds_identity.emulator import DEFAULT_USER_ASSIGNED, Emulator

VAULT = "https://vault.azure.net"


def test_text_is_the_token_alone(imds_emulator: Emulator, ran: Any) -> None:
    status, out, err = ran("token", f"{VAULT}/.default")
    assert (status, err) == (0, "")
    assert jwt.decode(out.strip(), options={"verify_signature": False})["aud"] == VAULT
    assert out.count("\n") == 1


def test_json_has_the_fields_of_az(imds_emulator: Emulator, ran: Any) -> None:
    status, out, _ = ran("token", VAULT, "--output", "json")
    said = json.loads(out)
    claims = jwt.decode(said["accessToken"], options={"verify_signature": False})
    assert status == 0
    assert list(said) == [
        "accessToken",
        "expiresOn",
        "expires_on",
        "subscription",
        "tenant",
        "tokenType",
    ]
    assert said["expires_on"] == claims["exp"]
    assert said["tenant"] == claims["tid"]
    assert said["subscription"] == claims["xms_mirid"].split("/")[2]
    assert said["tokenType"] == "Bearer"
    local = datetime.strptime(said["expiresOn"], "%Y-%m-%d %H:%M:%S.%f").astimezone()
    assert local.timestamp() == claims["exp"]


def test_header_goes_to_curl(imds_emulator: Emulator, ran: Any) -> None:
    _, token, _ = ran("token", VAULT)
    assert ran("token", VAULT, "--output", "header") == (0, f"Authorization: Bearer {token}", "")


@pytest.mark.parametrize("asked", [("--resource", VAULT), ("--scope", f"{VAULT}/.default")])
def test_it_is_asked_as_az_is(imds_emulator: Emulator, ran: Any, asked: tuple[str, str]) -> None:
    status, out, err = ran("token", *asked, "-o", "claims")
    assert (status, err) == (0, "")
    assert json.loads(out)["aud"] == VAULT


def test_claims_are_shown_without_the_token(imds_emulator: Emulator, ran: Any) -> None:
    _, token, _ = ran("token", VAULT)
    _, out, _ = ran("token", VAULT, "--output", "claims")
    assert json.loads(out) == jwt.decode(token.strip(), options={"verify_signature": False})
    assert not any(part in out for part in token.strip().split("."))


def test_a_token_without_claims_says_so(imds_emulator: Emulator, ran: Any) -> None:
    body = json.dumps({"access_token": "opaque", "expires_on": "32000000000"})
    imds_emulator.fault(category="identity", status=200, body=body, content_type="application/json")
    status, out, err = ran("token", VAULT, "-o", "claims")
    assert (status, out) == (1, "")
    assert "is no JWT" in err
    assert "opaque" not in err


def test_the_agents_key_files_may_lie_elsewhere(
    arc_emulator: Emulator, ran: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    directory = str(arc_emulator.tokens_directory)
    status, out, _ = ran("token", VAULT, "--source", "arc", "--arc-tokens-directory", directory)
    assert (status, out.count("\n")) == (0, 1)


def test_the_cache_is_named_or_off(imds_emulator: Emulator, ran: Any, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    for _ in range(2):
        assert ran("token", VAULT, "--cache", str(shared))[0] == 0
    assert list(shared.iterdir())
    assert ran("cache", "show", "--cache", str(shared))[1].startswith("1 in ")


@pytest.mark.parametrize("claims", ['{"tid": ["a"], "xms_mirid": {}}', "[" * 40_000, "[]", "7", ""])
def test_a_token_that_says_nonsense_of_itself_is_still_shown(
    imds_emulator: Emulator, ran: Any, claims: str
) -> None:
    token = f"eyJ9.{base64.urlsafe_b64encode(claims.encode()).decode()}.x"
    body = json.dumps({"access_token": token, "expires_on": "32000000000"})
    imds_emulator.fault(category="identity", status=200, body=body, content_type="application/json")
    status, out, err = ran("token", VAULT, "--output", "json")
    said = json.loads(out)
    assert (status, err) == (0, "")
    assert (said["accessToken"], said["tenant"], said["subscription"]) == (token, None, None)


def test_no_header_of_the_service_s_own_is_written(imds_emulator: Emulator, ran: Any) -> None:
    said = {"access_token": "t", "expires_on": "32000000000", "token_type": "X\r\nX-Evil: 1\r\nY:"}
    body = json.dumps(said)
    imds_emulator.fault(category="identity", status=200, body=body, content_type="application/json")
    status, out, err = ran("token", VAULT, "--output", "header")
    assert (status, out) == (1, "")
    assert "token_type is not Bearer" in err
    assert "Evil" not in err


def test_no_example_puts_a_token_on_a_command_line_that_others_can_read() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    assert re.search(r"--output header \|\s+curl -H @-", readme)
    assert "$(imds-identity token" not in readme


@pytest.mark.skipif(shutil.which("sh") is None, reason="needs a POSIX shell")
def test_env_is_evaluated_by_a_shell(imds_emulator: Emulator, ran: Any) -> None:
    _, token, _ = ran("token", VAULT)
    _, lines, _ = ran("token", VAULT, "--output", "env")
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
def test_exec_credential_is_what_kubectl_asks_for(
    imds_emulator: Emulator, ran: Any, monkeypatch: pytest.MonkeyPatch, version: str | None
) -> None:
    if version:
        asked = {"apiVersion": f"client.authentication.k8s.io/{version}", "kind": "ExecCredential"}
        monkeypatch.setenv("KUBERNETES_EXEC_INFO", json.dumps(asked))
    said = json.loads(ran("token", VAULT, "--output", "exec-credential")[1])
    assert said["apiVersion"] == f"client.authentication.k8s.io/{version or 'v1'}"
    assert said["kind"] == "ExecCredential"
    expiry = datetime.strptime(said["status"]["expirationTimestamp"], "%Y-%m-%dT%H:%M:%S%z")
    claims = jwt.decode(said["status"]["token"], options={"verify_signature": False})
    assert expiry.timestamp() == claims["exp"]


@pytest.mark.parametrize("selector", ["client_id", "object_id", "resource_id"])
def test_a_user_assigned_identity(imds_emulator: Emulator, ran: Any, selector: str) -> None:
    flag = f"--{selector.replace('_', '-')}"
    _, out, _ = ran("token", VAULT, flag, getattr(DEFAULT_USER_ASSIGNED, selector))
    claims = jwt.decode(out.strip(), options={"verify_signature": False})
    assert claims["oid"] == DEFAULT_USER_ASSIGNED.object_id


def test_alone_it_lists_its_commands(ran: Any) -> None:
    status, out, err = ran()
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
def test_wrong_usage_ends_with_2_and_a_word_of_why(ran: Any, arguments: list[str]) -> None:
    status, out, err = ran(*arguments)
    assert (status, out) == (2, "")
    assert "imds-identity" in err
    assert "Traceback" not in err


def test_an_error_ends_with_1_in_plain_words(imds_emulator: Emulator, ran: Any) -> None:
    status, out, err = ran("token", VAULT, "--client-id", "nobody")
    assert (status, out) == (1, "")
    assert err.startswith("imds-identity: the service answered 400")
    assert "nobody" in err
    assert err.count("\n") == 2  # the second line names the command that finds the cause


def test_what_nobody_thought_of_is_no_traceback_either(
    ran: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object) -> None:
        raise ZeroDivisionError("Bearer eyJhbGciOiJIUzI1NiJ9.e30.c2ln")

    monkeypatch.setattr("imds_identity._token_cache.client.TokenClient.token", broken)
    status, out, err = ran("token", VAULT)
    assert (status, out) == (1, "")
    assert err == "imds-identity: unexpected ZeroDivisionError: <hidden>\n"


def process(*arguments: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "imds_identity", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, **settings
    )


def test_a_process_prints_a_token_without_loading_azure_core(imds_emulator: Emulator) -> None:
    script = (
        "import sys; from imds_identity.cli import main; status = main(sys.argv[1:]);"
        "print(status, [m for m in ('azure.core', 'msal', 'asyncio') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "token", VAULT], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[1] == "0 []"


AS_A_PROGRAM = """
import atexit, sys, threading
from imds_identity.cli import program
keeps_turning = threading.Event()
if sys.argv[1] == "atexit":
    atexit.register(print, "called at the end")
elif sys.argv[1] == "thread":
    threading.Thread(target=lambda: (keeps_turning.wait(60), print("a thread ended"))).start()
sys.argv[1:] = sys.argv[2:]
status = program()
print("went on", flush=True)
keeps_turning.set()
sys.exit(status)
"""


@pytest.mark.parametrize(
    ("who", "words", "status", "said"),
    [
        ("nobody", ["token", VAULT], 0, []),
        ("atexit", ["token", VAULT], 0, ["went on", "called at the end"]),
        ("thread", ["token", VAULT], 0, ["went on", "a thread ended"]),
        ("nobody", ["token", "no resource"], 2, ["went on"]),
    ],
)
def test_the_program_ends_at_once_if_nobody_waits_for_its_end(
    who: str, words: list[str], status: int, said: list[str], imds_emulator: Emulator
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", AS_A_PROGRAM, who, *words],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.startswith("eyJ")] == said
    assert len(lines) - len(said) == (status == 0)


def test_a_reader_that_goes_away_is_no_traceback(imds_emulator: Emulator) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "imds_identity", "token", VAULT]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_the_demo_shows_both_hosts() -> None:
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


def test_v_tells_on_standard_error_what_is_done(imds_emulator: Emulator) -> None:
    """In a process of its own: what is told last is not lost with the interpreter."""
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-m", "imds_identity", "token", VAULT, "-v", "--cache", "off"],
            capture_output=True, text=True, check=True, timeout=60,
            env={**os.environ, **imds_emulator.environment()},
        )  # fmt: skip
        told = done.stderr.splitlines()
        assert all(line.startswith("imds-identity: ") for line in told)
        assert [
            words
            for words in ("tokens come from", ": 200, ", "fetched a token for")
            if not any(words in line for line in told)
        ] == []
        assert done.stdout.strip() not in done.stderr


def test_without_v_nothing_is_told(imds_emulator: Emulator, ran: Any) -> None:
    ran("token", VAULT, "-v", "--cache", "off")
    assert ran("token", VAULT, "--cache", "off")[2] == ""
