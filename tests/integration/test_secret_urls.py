"""A URL can be a secret: no output of the package contains it."""

from __future__ import annotations

import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_identity import ManagedIdentityCredential, ManagedIdentityError, clear_cache
from imds_identity._core.source import Source, shown_url
from imds_identity.metadata import MetadataClient, MetadataError
from support import QuietHandler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from imds_identity.emulator import Emulator

SECRET = "Zm9vYmFyLXNlY3JldC1vZi10aGUtZW5kcG9pbnQ"
VAULT = "https://vault.azure.net"
COMMANDS = {
    "token": ("token", "-v", VAULT),
    "doctor": ("doctor", "-v"),
    "doctor --json": ("doctor", "--json"),
    "cache show": ("cache", "show"),
    "whoami": ("whoami",),
    "metadata": ("metadata",),
    "attested": ("attested", "fetch"),
    "rest": ("rest", "https://management.azure.com/subscriptions?api-version=2022-12-01"),
    "secret": ("secret", "kv://vault/name"),
}


class Prefix(QuietHandler, BaseHTTPRequestHandler):
    """A proxy under a secret path; with ``broken``, it repeats the path in an error."""

    emulator: str
    broken: bool

    def do_GET(self) -> None:
        import urllib.error
        import urllib.request

        prefix, _, path = self.path.partition("/metadata/")
        if self.broken or prefix != f"/{SECRET}":
            self.respond(
                400, f'{{"error": "invalid", "error_description": "{self.path}"}}'.encode()
            )
            return
        request = urllib.request.Request(
            f"{self.emulator}/metadata/{path}", headers={"Metadata": "true"}
        )
        try:
            with urllib.request.urlopen(request) as response:
                self.respond(200, response.read())
        except urllib.error.HTTPError as error:
            with error:
                self.respond(error.code, error.read())


@pytest.fixture(params=["healthy", "broken", "absent"])
def environment(
    request: pytest.FixtureRequest,
    imds_emulator: Emulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[str]:
    """The environment of a client of an endpoint with a secret path; its state."""
    handler = type(
        "Handler",
        (Prefix,),
        {"emulator": imds_emulator.endpoint, "broken": request.param == "broken"},
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/{SECRET}"
    if request.param == "absent":
        server.shutdown()
        server.server_close()
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", url)
    monkeypatch.setenv("IMDS_IDENTITY_CACHE", str(tmp_path / "cache"))
    clear_cache()
    yield request.param
    if request.param != "absent":
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("environment", ["healthy", "broken"], indirect=True)
def test_no_output_contains_the_secret_path(
    environment: str, run_cli: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    for name, arguments in COMMANDS.items():
        status, out, err = run_cli(*arguments)
        assert out or err, name
        assert SECRET not in out + err, name
        if (name, environment) == ("token", "healthy"):
            assert status == 0, err
            assert "/<hidden>/metadata/identity/oauth2/token" in err
    for path in (tmp_path / "cache").iterdir():
        assert SECRET.encode() not in path.read_bytes(), path


def test_no_error_or_log_line_contains_the_secret_path(
    environment: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    credential = ManagedIdentityCredential(retry_total=0)
    texts = [repr(credential), str(credential)]
    try:
        credential.get_token(f"{VAULT}/.default")
    except ManagedIdentityError as error:
        texts += [str(error), repr(error)]
    try:
        MetadataClient().instance()
    except MetadataError as error:
        texts += [str(error), repr(error)]
    assert SECRET not in "\n".join([*texts, caplog.text])
    assert environment == "healthy" or len(texts) > 2


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://169.254.169.254/metadata/identity/oauth2/token",) * 2,
        ("http://h:1/metadata/instance/compute/tagsList",) * 2,
        ("http://localhost:8081/msi/token",) * 2,
        ("https://[::1]:443",) * 2,
        ("http://h/secret/metadata", "http://h/<hidden>/metadata"),
        ("http://user:secret@h:80/", "http://<hidden>@h:80/"),
        ("http://h/metadata?code=secret", "http://h/metadata?code=<hidden>"),
        (
            "http://h/metadata?resource=https%3A%2F%2Fvault&secret",
            "http://h/metadata?resource=https%3A%2F%2Fvault&<hidden>",
        ),
        ("h:80/secret", "h:80/<hidden>"),
        ("http://h\\secret", "http://h/<hidden>"),
        ("https://login.example/72f988bf-86f1-41af-91ab-2d7cd011db47/oauth2/v2.0/token",) * 2,
        (
            "http://h/72f988bf-86f1-41af-91ab-2d7cd011db47/metadata",
            "http://h/<hidden>/metadata",
        ),
    ],
)
def test_host_and_known_segments_are_shown(url: str, shown: str) -> None:
    assert shown_url(url) == shown


@given(
    st.text("abcdefghijklmnopqrstuvwxyz0123456789-_.~", min_size=12),
    st.lists(st.sampled_from(["metadata", "identity", "oauth2", "token", "msi"]), max_size=3),
    st.lists(st.sampled_from(["metadata", "identity", "oauth2", "token", "msi"]), max_size=3),
)
def test_unknown_segment_is_never_shown(secret: str, before: list[str], after: list[str]) -> None:
    url = "/".join(["http://127.0.0.1:1", *before, secret, *after])
    assert secret not in shown_url(url)
    source = Source("imds", url, "VARIABLE")
    for text in (str(source), repr(source), source.key_endpoint):
        assert secret not in text


def test_keys_of_two_secret_paths_differ() -> None:
    first, second = (Source("imds", f"http://h/{each}/metadata") for each in ("one", "two"))
    assert first.key_endpoint != second.key_endpoint
    assert first.shown_endpoint == second.shown_endpoint
