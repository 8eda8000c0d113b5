"""The credential helper for Azure Repos; tests/interop/test_credential_helpers.py uses git."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

import pytest

from imds_identity.cli import main, scripts
from imds_identity.metadata._services import AZURE_DEVOPS as RESOURCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from imds_identity.emulator import Emulator

    Helper = Callable[..., dict[str, str]]

# What git passes for hostile URLs; it decodes percent signs in a host.
HOSTILE_HOSTS = [
    "", ".", "azure.com", "evil.example", "dev.azure.com.evil.example",
    "evil.example/dev.azure.com",
    "dev.azure.com/.evil.example", "dev.azure.com@evil.example", "evil.example@dev.azure.com",
    "dev.azure.com:443@evil.example", "dev.azure.com#.evil.example", "dev.azure.com?.evil.example",
    "dev.azure.com\\.evil.example", "evil.example\\.dev.azure.com", "dev.azure.com:80",
    "dev.azure.com:8443", "dev.azure.com:4430", "dev.azure.com:443:443", "dev.azure.com:",
    "dev.azure.com.", ".dev.azure.com", "x.dev.azure.com", "pkgs.dev.azure.com",
    "ssh.dev.azure.com",
    "xdev.azure.com", "dev-azure.com", "devxazure.com", "dev.azure.co", "dev.azure.comx",
    "dev.azure.com ", " dev.azure.com", "dev.azure.com\t", "dev.azure.com\r", "dev.azure.com\0",
    "dev.azure.com%00", "dev.azure.com%2f.evil.example", "dev.azure.com\u2028evil.example",
    "dev.azure.c\u043em", "dev\u3002azure\u3002com", "\uff44ev.azure.com", "dev.azure.com\u200b",
    "visualstudio.com", ".visualstudio.com", "-.visualstudio.com", "a.b.visualstudio.com",
    "evil.example/.visualstudio.com", "a_b.visualstudio.com", "a@b.visualstudio.com",
    "x.visualstudio.com.evil.example", "x.visualstudio.com.", "xvisualstudio.com",
    "a%2e.visualstudio.com",
    "a b.visualstudio.com", "a\\.visualstudio.com", "\u0430.visualstudio.com",
    "a:b.visualstudio.com",
    "127.0.0.1", "[::1]", "localhost", "x.pkgs.visualstudio.com",
]  # fmt: skip


@pytest.fixture
def helper(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Helper:
    """Run the helper with git's request; return the fields of its response."""

    def run(action: str, request: str, *flags: str) -> dict[str, str]:
        stdin = io.TextIOWrapper(io.BytesIO(request.encode("utf-8", "surrogateescape")))
        monkeypatch.setattr(sys, "stdin", stdin)
        assert main(["git-credential", *flags, action]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        return dict(line.partition("=")[::2] for line in out.splitlines())

    return run


def test_token_is_the_password_for_azure_repos(imds_emulator: Emulator, helper: Helper) -> None:
    for host in ("dev.azure.com", "DEV.azure.com:443", "my-org.visualstudio.com"):
        response = helper("get", f"protocol=https\nhost={host}\npath=org/project/_git/r\xff\n\n")
        [token] = imds_emulator.issued_tokens
        assert token.resource == RESOURCE
        assert response == {
            "username": "VssSessionToken",
            "password": token.value,
            "password_expiry_utc": str(int(token.expires)),
        }


def test_user_name_of_the_url_is_kept(imds_emulator: Emulator, helper: Helper) -> None:
    response = helper("get", "protocol=https\nhost=dev.azure.com\nusername=org\n\n")
    assert response["username"] == "org"


def test_git_that_knows_bearer_tokens_gets_one_that_no_helper_stores(
    imds_emulator: Emulator, helper: Helper
) -> None:
    capabilities = "capability[]=authtype\ncapability[]=state\n"
    response = helper("get", f"{capabilities}protocol=https\nhost=dev.azure.com\n\n")
    [token] = imds_emulator.issued_tokens
    assert response == {
        "capability[]": "authtype",
        "authtype": "Bearer",
        "credential": token.value,
        "ephemeral": "1",
        "password_expiry_utc": str(int(token.expires)),
    }


def test_other_hosts_get_nothing(imds_emulator: Emulator, helper: Helper) -> None:
    assert len(HOSTILE_HOSTS) >= 50
    for host in HOSTILE_HOSTS:
        assert helper("get", f"protocol=https\nhost={host}\n\n") == {}, host
    for protocol in ("http", "HTTPS", "ftp", "ssh", "", "https "):
        assert helper("get", f"protocol={protocol}\nhost=dev.azure.com\n\n") == {}, protocol
    assert imds_emulator.requests == []


def test_only_a_line_feed_ends_a_line(imds_emulator: Emulator, helper: Helper) -> None:
    for line_break in ("\r", "\v", "\f", "\x1e", "\x85", "\u2028", "\u2029"):
        path = f"x{line_break}host=dev.azure.com"
        assert helper("get", f"protocol=https\nhost=evil.example\npath={path}\n\n") == {}
    assert imds_emulator.requests == []


def test_other_actions_are_ignored(imds_emulator: Emulator, helper: Helper) -> None:
    request = "protocol=https\nhost=dev.azure.com\nusername=u\npassword=p\n\n"
    for action in ("store", "capability", "future"):
        assert helper(action, request) == {}
    assert imds_emulator.requests == []


def test_refused_token_is_replaced(imds_emulator: Emulator, helper: Helper) -> None:
    imds_emulator.advance_clock(3600)  # the token seems to be issued in the future
    request = "protocol=https\nhost=dev.azure.com\n"
    refused = helper("get", request + "\n")["password"]
    assert helper("erase", f"{request}password=another\n\n") == {}
    assert helper("get", request + "\n")["password"] == refused
    assert helper("erase", f"{request}password={refused}\n\n") == {}
    assert helper("get", request + "\n")["password"] != refused
    assert helper("erase", f"{request}password={refused}\n\n") == {}
    assert len(imds_emulator.token_requests) == 2


def test_failure_is_explained(
    imds_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    request = b"protocol=https\nhost=dev.azure.com\n\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(request)))
    unknown = "00000000-1111-2222-3333-444444444444"
    assert main(["git-credential", "get", "--client-id", unknown]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert f"imds-identity doctor --resource {RESOURCE} --client-id {unknown}" in err


@pytest.mark.parametrize(
    ("words", "selected"),
    [
        ([], ["--client-id", "from-the-environment"]),
        (["--client-id=mine"], []),
        (["--object-id", "mine"], []),
    ],
)
def test_variable_selects_the_identity_of_the_script(
    monkeypatch: pytest.MonkeyPatch, words: list[str], selected: list[str]
) -> None:
    called: list[list[str]] = []
    monkeypatch.setattr(scripts, "main", called.append)
    monkeypatch.setattr(sys, "argv", ["git-credential-imds-identity", *words, "get"])
    monkeypatch.setenv("AZURE_CLIENT_ID", "from-the-environment")
    scripts.git_credential()
    assert called == [["git-credential", *selected, *words, "get"]]
