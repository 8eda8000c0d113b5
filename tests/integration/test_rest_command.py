"""``imds-identity rest`` with the emulated Key Vault."""

from __future__ import annotations

import io
import json
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from imds_identity.cli import main
from support import FakeHttpResponse

if TYPE_CHECKING:
    from pathlib import Path

    from imds_identity.emulator import Emulator

VAULT = "https://vault.azure.net"


@pytest.fixture
def run_rest(imds_emulator: Emulator, capsysbinary: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", imds_emulator.key_vault.ca_file)

    def run(*arguments: str) -> tuple[int, bytes, str]:
        try:
            status = main(["rest", *arguments])
        except SystemExit as done:
            status = int(done.code or 0)
        out, err = capsysbinary.readouterr()
        return status, out, err.decode()

    return run


def test_response_of_an_api_is_printed(run_rest: Any, imds_emulator: Emulator) -> None:
    imds_emulator.key_vault.secrets.update(one="1", two="2")
    url = f"{imds_emulator.key_vault.url}/secrets"
    status, out, err = run_rest("get", f"{url}/one?api-version=7.4", "--resource", VAULT)
    assert (status, err) == (0, "")
    assert json.loads(out)["value"] == "1"
    status, out, _ = run_rest("GET", f"{url}?api-version=7.4", "--resource", VAULT, "--paginate")
    assert [each["id"][-3:] for each in json.loads(out)["value"]][-2:] == ["one", "two"]
    status, out, err = run_rest("GET", f"{url}/no?api-version=7.4", "--resource", VAULT)
    assert (status, out) == (1, b"")
    assert "404" in err
    assert "SecretNotFound" in err


def test_unknown_host_requires_a_resource(run_rest: Any, imds_emulator: Emulator) -> None:
    for url in ("https://example.com/", "https://management.azure.com.example.com/"):
        status, _, err = run_rest("GET", url)
        assert status == 2
        assert "--resource" in err
    assert run_rest("GET", "http://management.azure.com/")[0] == 2
    assert run_rest("GET", "//example.com/")[0] == 2
    assert imds_emulator.token_requests == []


@pytest.mark.parametrize(
    "flags",
    [
        ["--header", "Authorization=Bearer x"],
        ["--header", "X=a\nb"],
        ["--header", "no value"],
        ["--body", "@/no/such/file"],
        ["--cloud", "AzureMoonCloud"],
        ["--paginate"],
    ],
)
def test_invalid_flags_are_refused(
    run_rest: Any, imds_emulator: Emulator, flags: list[str]
) -> None:
    assert run_rest("PUT", "/subscriptions", *flags)[0] == 2
    assert imds_emulator.token_requests == []


def captured_requests(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the list of requests, which are not sent."""
    import urllib.request

    requests: list[Any] = []

    def open_(_self: object, request: Any, timeout: float) -> Any:
        requests.append(request)
        return FakeHttpResponse(200, {"seen": request.full_url}, Content_Type="application/json")

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", open_)
    return requests


@pytest.mark.parametrize("content_type", ["application/octet-stream", "application/json"])
def test_control_characters_of_a_raw_body_are_escaped_on_a_terminal(
    run_rest: Any, monkeypatch: pytest.MonkeyPatch, content_type: str
) -> None:
    def open_(*_: object, **__: object) -> Any:
        response = FakeHttpResponse(200, Content_Type=content_type)
        response.write(b"{\x1b]0;title\x07\xff\n")
        response.seek(0)
        return response

    monkeypatch.setattr("urllib.request.OpenerDirector.open", open_)
    assert run_rest("GET", "/x")[1] == b"{\x1b]0;title\x07\xff\n"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert run_rest("GET", "/x")[1] == rb"{\x1b]0;title\x07\xff" + b"\n"


@pytest.mark.parametrize("method", [(), ("--method", "get"), ("-m", "GET")])
def test_flags_of_az_rest_are_supported(
    run_rest: Any, monkeypatch: pytest.MonkeyPatch, method: tuple[str, ...]
) -> None:
    requests = captured_requests(monkeypatch)
    flags = ("--headers", "A=1", "B=2", "--url-parameters", "api-version=2022-12-01", "$top=1")
    assert run_rest(*method, "--url", "/subscriptions?x=y", *flags, "-o", "json")[0] == 0
    [request] = requests
    assert request.get_method() == "GET"
    assert request.full_url.endswith("/subscriptions?x=y&api-version=2022-12-01&%24top=1")
    assert (request.get_header("A"), request.get_header("B")) == ("1", "2")


def test_query_selects_a_part_of_the_response(
    run_rest: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    captured_requests(monkeypatch)
    monkeypatch.setitem(sys.modules, "jmespath", None)
    status, _, err = run_rest("GET", "/x", "--query", "seen")
    assert (status, "pip install jmespath" in err) == (2, True)
    compiled = SimpleNamespace(search=lambda document: [document["seen"]])
    fake = SimpleNamespace(compile=lambda _: compiled)
    monkeypatch.setitem(sys.modules, "jmespath", fake)
    _, out, _ = run_rest("GET", "/x", "--query", "[seen]", "-o", "text")
    assert out == b"https://management.azure.com/x\n"


def test_path_belongs_to_resource_manager(
    run_rest: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    requests = captured_requests(monkeypatch)
    body = tmp_path / "body"
    body.write_text('{"a": 1}')
    assert run_rest("PUT", "/subscriptions/s?api-version=1", "--body", f"@{body}")[0] == 0
    assert requests[0].full_url == "https://management.azure.com/subscriptions/s?api-version=1"
    assert requests[0].data == b'{"a": 1}'
    assert requests[0].get_header("Content-type") == "application/json"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"from a pipe")))
    flags = ("--cloud", "azurechinacloud", "--body", "@-", "--header", "content-type=text/plain")
    assert run_rest("POST", "/x", *flags)[0] == 0
    assert requests[1].full_url == "https://management.chinacloudapi.cn/x"
    assert requests[1].data == b"from a pipe"
    assert requests[1].get_header("Content-type") == "text/plain"
    assert requests[1].get_header("Authorization").startswith("Bearer eyJ")
