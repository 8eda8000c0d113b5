"""The keyring backend; tests/interop/test_credential_helpers.py uses it with pip, uv and twine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from imds_identity.emulator import DEFAULT_USER_ASSIGNED
from imds_identity.metadata._services import AZURE_DEVOPS

keyring_errors = pytest.importorskip("keyring.errors")

from imds_identity.keyring import AzureArtifactsKeyring  # noqa: E402 - needs keyring

if TYPE_CHECKING:
    from imds_identity.emulator import Emulator

FEEDS = [
    "https://pkgs.dev.azure.com/org/_packaging/feed/pypi/simple/",
    "https://pkgs.dev.azure.com",
    "https://PKGS.dev.azure.com:443/org/_packaging/feed@Local/pypi/simple/?a=b#c",
    "https://VssSessionToken@pkgs.dev.azure.com/org/_packaging/feed/pypi/simple/",
    "https://my-org.pkgs.visualstudio.com/_packaging/feed/pypi/upload",
]
OTHERS = [
    "", "pkgs.dev.azure.com", "//pkgs.dev.azure.com/", "http://pkgs.dev.azure.com/",
    "HTTPS://pkgs.dev.azure.com/", "ftp://pkgs.dev.azure.com/", "https:pkgs.dev.azure.com/",
    "https:/pkgs.dev.azure.com/", "https:///pkgs.dev.azure.com/", " https://pkgs.dev.azure.com/",
    "https://pkgs.dev.azure.com/ ", "https://pkgs.dev.azure.com/\n", "https://pkgs.dev.azure.com\n",
    "https://evil.example/pkgs.dev.azure.com", "https://evil.example/?@pkgs.dev.azure.com/",
    "https://evil.example#@pkgs.dev.azure.com/", "https://evil.example/@pkgs.dev.azure.com/",
    "https://evil.example\\@pkgs.dev.azure.com/", "https://evil.example\\pkgs.dev.azure.com/",
    "https://pkgs.dev.azure.com@evil.example/", "https://pkgs.dev.azure.com:443@evil.example/",
    "https://pkgs.dev.azure.com\\@evil.example/", "https://pkgs.dev.azure.com\\.evil.example/",
    "https://pkgs.dev.azure.com.evil.example/", "https://pkgs.dev.azure.com%2f.evil.example/",
    "https://pkgs.dev.azure.com%00.evil.example/", "https://pkgs.dev.azure.com\t.evil.example/",
    "https://a@b@pkgs.dev.azure.com/", "https://a%40b@pkgs.dev.azure.com/",
    "https://a/b@pkgs.dev.azure.com/", "https://a b@pkgs.dev.azure.com/",
    "https://pkgs.dev.azure.com:80/", "https://pkgs.dev.azure.com:8443/",
    "https://pkgs.dev.azure.com:/", "https://pkgs.dev.azure.com:443:443/",
    "https://pkgs.dev.azure.com./", "https://.pkgs.dev.azure.com/", "https://x.pkgs.dev.azure.com/",
    "https://dev.azure.com/", "https://xpkgs.dev.azure.com/", "https://pkgs.dev.azure.comx/",
    "https://pkgs-dev.azure.com/", "https://pkgs.dev.azure.co/", "https://pkgs.dev.azure.c\u043em/",
    "https://pkgs\u3002dev\u3002azure\u3002com/", "https://\uff50kgs.dev.azure.com/",
    "https://pkgs.visualstudio.com/", "https://.pkgs.visualstudio.com/",
    "https://-.pkgs.visualstudio.com/", "https://a.b.pkgs.visualstudio.com/",
    "https://my-org.visualstudio.com/", "https://a_b.pkgs.visualstudio.com/",
    "https://a.pkgs.visualstudio.com.evil.example/", "https://xpkgs.visualstudio.com/",
    "https://[::1]/", "https://127.0.0.1/", "https://pypi.org/simple/", "system", "\ud800",
]  # fmt: skip


@pytest.fixture
def backend() -> Any:
    untyped: Any = AzureArtifactsKeyring
    return untyped()


@pytest.mark.parametrize("url", FEEDS)
def test_token_is_the_password_of_a_feed(
    imds_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, backend: Any, url: str
) -> None:
    monkeypatch.setenv("AZURE_CLIENT_ID", DEFAULT_USER_ASSIGNED.client_id)
    credential = backend.get_credential(url, None)
    [token] = imds_emulator.issued_tokens
    assert token.resource == AZURE_DEVOPS
    assert (credential.username, credential.password) == ("VssSessionToken", token.value)
    assert backend.get_password(url, "somebody") == token.value
    assert backend.get_credential(url, "somebody").username == "somebody"
    [request] = imds_emulator.token_requests
    assert request.query["client_id"] == DEFAULT_USER_ASSIGNED.client_id


def test_other_services_get_no_token(imds_emulator: Emulator, backend: Any) -> None:
    assert len(OTHERS) >= 50
    for service in OTHERS:
        assert backend.get_credential(service, "user") is None, service
        assert backend.get_password(service, "user") is None
    assert imds_emulator.requests == []


def test_nothing_is_stored(backend: Any) -> None:
    with pytest.raises(keyring_errors.PasswordSetError, match="stores no passwords"):
        backend.set_password(FEEDS[0], "user", "password")
    with pytest.raises(keyring_errors.PasswordDeleteError, match="stores no passwords"):
        backend.delete_password(FEEDS[0], "user")


def test_failure_is_an_error_of_keyring(
    imds_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, backend: Any
) -> None:
    monkeypatch.setenv("AZURE_CLIENT_ID", "00000000-1111-2222-3333-444444444444")
    with pytest.raises(keyring_errors.KeyringError, match="Identity not found") as raised:
        backend.get_credential(FEEDS[0], None)
    assert raised.value.__context__ is None


def test_backends_that_store_passwords_are_asked_first() -> None:
    assert 0 < AzureArtifactsKeyring.priority < 0.5
