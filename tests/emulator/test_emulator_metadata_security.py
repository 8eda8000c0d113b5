"""The Metadata Security Protocol: what its agent denies and what it relays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from imds_identity import ManagedIdentityCredential
from imds_identity._platform import proxy_agent
from imds_identity.emulator import Emulator, Fault
from imds_identity.emulator._cli.flag_parsing import parse_fault
from imds_identity.errors import TokenRefusedError

if TYPE_CHECKING:
    from pathlib import Path

    from emulator.support import Send, Start

HEADER = "x-ms-azure-host-authorization"
VERSION = "2021-12-13"


def test_agent_in_audit_mode_adds_its_header_to_all_responses(
    start_emulator: Start, request_token: Send, get: Send
) -> None:
    emulator = start_emulator(metadata_security="audit", limits=True)
    assert request_token(emulator).headers[HEADER] == "value"
    assert request_token(emulator, client_id="unknown").headers[HEADER] == "value"
    assert get(emulator, "/metadata/instance", api_version=VERSION).headers[HEADER] == "value"
    assert HEADER not in get(emulator, "/health").headers
    assert HEADER not in request_token(start_emulator()).headers


@pytest.mark.parametrize("path", ["/metadata/instance", "/metadata/identity/oauth2/token"])
def test_denied_request_gets_an_empty_403_and_a_closed_connection(
    start_emulator: Start, get: Send, path: str
) -> None:
    emulator = start_emulator(metadata_security="deny")
    response = get(emulator, path, api_version=VERSION)
    assert (response.status_code, response.content) == (403, b"")
    assert response.headers["Connection"] == "close"
    assert HEADER not in response.headers
    assert (emulator.requests[0].status, emulator.requests[0].note) == (403, "denied")


def test_fault_denies_some_requests_as_the_agent_does(
    start_emulator: Start, request_token: Send
) -> None:
    emulator = start_emulator(metadata_security="audit")
    emulator.fault(denied=True, times=1)
    emulator.fault(denied=True, status=421, times=1)
    denied, unattributed, relayed = (request_token(emulator) for _ in range(3))
    assert [denied.status_code, unattributed.status_code] == [403, 421]
    assert denied.content == unattributed.content == b""
    assert HEADER not in denied.headers
    assert relayed.headers[HEADER] == "value"


def test_recorded_denial_can_be_replayed(
    start_emulator: Start, request_token: Send, tmp_path: Path
) -> None:
    file = tmp_path / "session.jsonl"
    request_token(start_emulator(metadata_security="deny", record=file))
    emulator = start_emulator(replay=file)
    assert [request_token(emulator).status_code for _ in range(2)] == [403, 200]


def test_credential_names_the_denial(
    start_emulator: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator = start_emulator(metadata_security="deny")
    monkeypatch.setattr(proxy_agent, "is_visible", lambda: True)
    for name, value in emulator.environment().items():
        monkeypatch.setenv(name, value)
    with ManagedIdentityCredential() as credential, pytest.raises(TokenRefusedError) as caught:
        credential.get_token("https://vault.azure.net/.default")
    assert caught.value.reason_code == "metadata-security"


@pytest.mark.parametrize(
    ("profile", "mode"), [("arc", "deny"), ("app-service", "audit"), ("vm", "on")]
)
def test_only_a_vm_has_the_protocol(profile: Any, mode: Any) -> None:
    with pytest.raises(ValueError, match="metadata_security"):
        Emulator(profile, metadata_security=mode)


def test_flag_of_a_fault_can_set_headers(start_emulator: Start, request_token: Send) -> None:
    fault = parse_fault("headers=X-One: 1,status=500,headers=X-Two:a:b")
    assert fault == Fault(status=500, headers={"X-One": "1", "X-Two": "a:b"})
    headers = request_token(start_emulator(faults=[fault])).headers
    assert (headers["X-One"], headers["X-Two"]) == ("1", "a:b")


@pytest.mark.parametrize("text", ["no colon", "Bad Name: x", "Content-Length: 1", "X: \x00"])
def test_headers_that_cannot_be_sent_are_rejected(text: str) -> None:
    with pytest.raises(ValueError, match="headers"):
        Fault(headers=text)
