"""Wrong command lines and failures: each gets a few short lines that say what to do."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

import pytest

from imds_identity._platform.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from collections.abc import Callable

    from imds_identity.emulator import Emulator

VAULT = "https://vault.azure.net"
LONGEST_LINE = 176
PYTHON_WORDS = re.compile(
    r"\b(None|NoneType|True|False|str|int|float|dict|IncompleteRead|Traceback|Errno|\w+(?<!Server)Error)\b"
)
CAPITALIZED_URL = re.compile(r"\bHttps?://")

WRONG = {
    # Commands.
    "tokn": "did you mean token?",
    "tokens": "did you mean token?",
    "get-token": "did you mean token?",
    "get-access-token": "did you mean token?",
    f"account get-access-token --resource {VAULT}": "did you mean token?",
    "account show": "did you mean whoami?",
    "identity show": "did you mean whoami?",
    "keyvault secret show": "did you mean secret?",
    "status": "did you mean doctor?",
    "metdata": "did you mean metadata?",
    "run -- program": "did you mean exec?",
    "help tokn": "did you mean token?",
    "nonsense": "help: imds-identity --help",
    "--verbose token": "flags follow it",
    "--versoin": "did you mean --version?",
    # Flags.
    f"token {VAULT} --clientid x": "did you mean --client-id?",
    f"token {VAULT} --client_id x": "did you mean --client-id?",
    f"token {VAULT} --client x": "did you mean --client-id?",
    f"token {VAULT} --username x": "did you mean --client-id?",
    f"token {VAULT} --json": "did you mean --output json?",
    f"token {VAULT} --query accessToken": "a pipe to jq",
    f"token {VAULT} --debug": "did you mean --verbose?",
    "events --folow": "did you mean --follow?",
    "secret show --vault-name v --name s": "did you mean kv://VAULT/NAME?",
    "demo --fast": "unknown flag --fast",
    # Values.
    f"token {VAULT} -o tsv": "did you mean text?",
    f"token {VAULT} -o jsn": "did you mean json?",
    f"token {VAULT} --source imd": "did you mean imds?",
    "doctor --fail-on error": "did you mean failure?",
    "cache list": "did you mean show?",
    "completion sh": "did you mean bash?",
    "emulator --profile vmm": "did you mean vm?",
    "emulator --token-lifetime soon": "must be a whole number, not 'soon'",
    "events --margin soon": "must be a number, not 'soon'",
    # Arguments.
    "token": "imds-identity token https://management.azure.com/",
    "token a b": "unexpected argument 'b'",
    "token 'a b'": "help: imds-identity token --help",
    f"token {VAULT} --client-id ''": "omit the flag to use the default",
    f"token {VAULT} --client-id a --object-id b": "not allowed with argument --client-id",
    f"token {VAULT} --as-application a": "require each other",
    "cache": "{show,clear}",
    "rest": "imds-identity rest GET '/subscriptions",
    "rest GET https://example.com/": "pass --resource",
    "rest GET http://management.azure.com/": "is not https",
    "secret my-secret": "kv://VAULT/NAME",
    "secret http://v.vault.azure.net/secrets/s --show": "is not https",
    "exec": "imds-identity exec -- COMMAND",
    "exec --token-file a -- program": "VARIABLE=RESOURCE",
    "serve": "--env-file",
    "serve --bind localhost": "must be an IP address",
    "serve --port 99999": "from 0 to 65535",
    "vault-login": "--role ROLE",
    "vault-login --role r": "set VAULT_ADDR",
    "docker-credential": "ACTION",
    "git-credential": "ACTION",
    "metadata --wait -1": "a number of seconds",
    "attested --at noon --verify x": "is not a time such as",
    "rest --method gte --url /x": "did you mean GET?",
    "rest GET /x --url-parameters a": "'a' is not NAME=VALUE",
    "doctor --check xyz": "imds-identity doctor --list",
    "doctor --explain II999": "imds-identity doctor --list",
}


def assert_readable(err: str) -> None:
    lines = err.rstrip("\n").split("\n")
    assert 1 <= len(lines) <= 4, err
    assert [line for line in lines if len(line) > LONGEST_LINE] == []
    assert lines[0].startswith("imds-identity")
    assert PYTHON_WORDS.findall(err) == []
    assert CAPITALIZED_URL.findall(err) == []


def skip_unless_supported(line: str) -> None:
    if sys.platform == "win32" and line.startswith(("serve", "exec --token-file")):
        pytest.skip("the command or flag requires a POSIX system")


@pytest.mark.parametrize(("line", "hint"), WRONG.items(), ids=WRONG)
def test_wrong_command_line_gets_a_response_that_leads_on(
    run_cli: Any, line: str, hint: str
) -> None:
    import shlex

    skip_unless_supported(line)
    status, out, err = run_cli(*shlex.split(line))
    assert (status, out) == (2, "")
    assert hint in err
    assert_readable(err)


@pytest.mark.parametrize("command", ["token", "secret", "doctor", "emulator"])
def test_usage_error_shows_the_usage_of_the_subcommand(run_cli: Any, command: str) -> None:
    assert f"usage: imds-identity {command} [FLAGS]" in run_cli(command, "--nonsense")[2]


def test_help_and_version_are_accepted_as_words(run_cli: Any) -> None:
    assert run_cli("help") == run_cli("--help")
    assert run_cli("help", "token") == run_cli("token", "--help") == run_cli("--help", "token")
    assert run_cli("version") == run_cli("--version")
    assert run_cli("version")[1].startswith("imds-identity 0.")


@pytest.mark.parametrize("words", [["login"], ["login", "--identity"], ["logout"]])
def test_login_is_not_needed(run_cli: Any, words: list[str]) -> None:
    status, out, err = run_cli(*words)
    assert (status, out) == (0, "")
    assert "no login is needed" in err
    assert "imds-identity whoami" in err


def test_help_groups_the_commands_and_documents_the_exit_statuses(run_cli: Any) -> None:
    text = run_cli("--help")[1]
    groups = re.findall(r"^(\w[\w ]*):$", text, re.MULTILINE)
    assert groups[:5] == ["tokens", "secrets and calls", "metadata", "diagnosis", "development"]
    assert "3 if there is no managed identity here, 4 if" in " ".join(text.split())


ENTRA = {
    "error": "invalid_resource",
    "error_description": (
        "AADSTS500011: The resource principal named https://unknown.example was not found in the "
        "tenant named Contoso. This can happen if the application has not been installed by the "
        "administrator of the tenant or consented to by any user in the tenant. You might have "
        "sent your authentication request to the wrong tenant. Trace ID: "
        "d8b1c1d5-5d4c-4a3a-8a0b-3a1d5e7c0b00 Correlation ID: 0e7ccd3b-8e4e-4a5c-9b0c-1c4ba1bfcf1c "
        "Timestamp: 2026-11-29 08:00:00Z"
    ),
}
FAULTS: dict[str, dict[str, Any]] = {
    **{str(status): {"status": status} for status in (302, 400, 401, 403, 404, 410, 429, 500, 503)},
    "Entra ID": {"status": 400, "body": __import__("json").dumps(ENTRA)},
    "denied by policy": {"denied": True},
    "denied by a proxy": {"status": 403, "body": "<html>Access denied</html>"},
    "not JSON": {"status": 200, "body": "<html>"},
    "no token": {"status": 200, "body": "{}"},
    "empty": {"status": 200, "body": ""},
    "reset": {"reset": True},
    "truncated": {"truncate": 20},
    "expired": {"token_lifetime": 0},
    "throttled": {"status": 429, "retry_after": 20},
}
HOSTS = (
    "vm", "arc", "stack-hub", "app-service", "functions", "container-apps", "azure-ml",
    "cloud-shell", "service-fabric", "aci", "workload-identity",
)  # fmt: skip


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry at once."""
    monkeypatch.setattr(SYSTEM_CLOCK, "sleep", lambda _: None)


@pytest.fixture
def host(
    request: pytest.FixtureRequest,
    start_emulator: Callable[..., Emulator],
    monkeypatch: pytest.MonkeyPatch,
) -> Emulator:
    emulator = start_emulator(request.param)
    for name, value in emulator.environment().items():
        monkeypatch.setenv(name, value)
    return emulator


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("host", HOSTS, indirect=True)
def test_each_failure_of_each_host_is_explained_in_a_few_lines(
    host: Emulator, run_cli: Any
) -> None:
    from imds_identity import clear_cache

    for name, fault in FAULTS.items():
        clear_cache()
        host.clear_faults()
        host.fault(category="*", content_type="application/json", **fault)
        status, out, err = run_cli("token", VAULT)
        assert (status in (1, 3, 4), out) == (True, ""), name
        assert_readable(err)
        assert "Trace ID" not in err
        assert err.splitlines()[-1].startswith("  to diagnose this, run: imds-identity doctor")


COMMANDS = (
    "whoami",
    "secret kv://v/s --show --cloud AzurePublicCloud",
    "rest GET /subscriptions?api-version=2022-12-01 --cloud AzurePublicCloud",
    "metadata",
    "events",
    "events --start x",
    "attested",
    "exec --token-file FILE=https://vault.azure.net -- program",
)


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("host", ["vm"], indirect=True)
def test_each_failing_command_is_explained_in_a_few_lines(
    host: Emulator, run_cli: Any, command: str
) -> None:
    from imds_identity import clear_cache

    skip_unless_supported(command)
    for name, fault in FAULTS.items():
        clear_cache()
        host.clear_faults()
        host.fault(category="*", content_type="application/json", **fault)
        status, _, err = run_cli(*command.split())
        assert status in (0, 1, 3, 4), (name, err)  # some faults concern tokens only
        if status:
            assert_readable(err)
