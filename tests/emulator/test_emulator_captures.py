"""Public captures of the real services: the emulator sends the same headers and bytes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from emulator.support import TOKEN_PATH, VAULT, key_file
from imds_identity.emulator import Machine

if TYPE_CHECKING:
    from collections.abc import Mapping

    from emulator.support import Send, Start
    from imds_identity.emulator import ManualClock

VM_HEADERS = {"Content-Type", "Server", "Date", "Content-Length"}
LOAD_BALANCER = "/metadata/loadbalancer"
INSTANCE = "/metadata/instance"
JSON = "application/json; charset=utf-8"
UUID = r"[0-9a-f-]{36}"


class Capture(NamedTuple):
    """A response of a real service, and how to get it from the emulator.

    ``body`` is the whole body, or a pattern; ``headers`` are patterns of some headers, and
    ``only_headers`` is True if the source lists all headers.
    """

    source: str
    status: int
    body: str | re.Pattern[str]
    profile: str = "vm"
    options: Mapping[str, Any] = {}
    path: str = TOKEN_PATH
    query: Mapping[str, str] = {}
    headers: Mapping[str, str] = {}
    only_headers: bool = False
    send: Mapping[str, str] = {}
    before: int = 0  # how many requests precede it


CAPTURES = [
    Capture(
        "https://github.com/dotnet/SqlClient/issues/2344",
        429,
        '{"error":"invalid_request",'
        '"error_description":"Temporarily throttled, too many requests"}',
        options={"limits": True, "latency": 0},
        headers={"Content-Length": "90", "Content-Type": re.escape(JSON)},
        only_headers=True,
        before=20,
    ),
    Capture(
        "https://github.com/Azure/azure-sdk-for-net/issues/37278",
        400,
        '{"error":"invalid_request","error_description":"Identity not found"}',
        query={"client_id": "unknown"},
        headers={"Content-Length": "68", "Server": r"IMDS/150\.870\.65\.[0-9]+"},
        only_headers=True,
    ),
    Capture(
        "Azure Instance Metadata Service, error without the header Metadata",
        400,
        '{"error":"Bad request. Required metadata header not specified"}',
        path=INSTANCE,
        query={"api-version": "2021-02-01"},
        send={"Metadata": "false"},
    ),
    Capture(
        "Azure Instance Metadata Service, error with the newest versions",
        400,
        re.compile(
            r'\{"error":"Bad request\. api-version .*",'
            r'"newest-versions":\["2025-04-07","2024-07-17","2024-03-15"\]\}'
        ),
        path=INSTANCE,
        options={"newest_version": "2025-04-07"},
        query={"api-version": "2099-01-01"},
    ),
    Capture(
        "Microsoft's common error codes of the load balancer metadata",
        404,
        '{"error":"No load balancer metadata is found. Please check if your VM is using any '
        'non-basic SKU load balancer and retry later."}',
        path=LOAD_BALANCER,
        options={"machine": Machine(load_balancer=None)},
        query={"api-version": "2020-10-01"},
    ),
    Capture(
        "Azure/GuestProxyAgent, proxy_agent/src/proxy/proxy_server.rs: denied by the rules",
        403,
        "",
        options={"metadata_security": "deny"},
        headers={"Connection": "close"},
    ),
    Capture(
        "Azure/GuestProxyAgent, proxy_agent/src/proxy/proxy_server.rs: relayed",
        400,
        re.compile('.*"Identity not found".*'),
        options={"metadata_security": "audit"},
        query={"client_id": "unknown"},
        headers={"x-ms-azure-host-authorization": "value"},
    ),
    Capture(
        "Microsoft's documentation of managed identities on Azure Arc: the challenge",
        401,
        re.compile('.*"error":"unauthorized_client".*'),
        "arc",
        query={"api-version": "2020-06-01"},
        headers={"WWW-Authenticate": r"Basic realm=.+\.key"},
    ),
    Capture(
        "https://github.com/rmbolger/Posh-ACME/issues/562",
        400,
        re.compile(".* Supported are 2021-02-01 2020-06-01 .*"),
        "arc",
        query={"api-version": "2018-02-01"},
    ),
    Capture(
        "A live Arc agent, by MSAL.NET's azure-arc-client-id-proposal.md",
        404,
        re.compile(r'\{"error":"identity_not_found","error_codes":\[404\],.*'),
        "arc",
        query={"api-version": "2020-06-01", "client_id": "unknown"},
    ),
    Capture(
        "An instance document of a live Arc server",
        200,
        re.compile(
            '.*"provider":"".*"publicKeys":null.*"storageProfile":\\{\\}.*"vmSize":"".*'
            '"network":\\{\\}.*'
        ),
        "arc",
        path=INSTANCE,
        query={"api-version": "2020-06-01"},
    ),
    Capture(
        "MSAL.NET's tests against a web app",
        400,
        re.compile(
            rf'\{{"correlationId":"{UUID}","message":"No User Assigned or Delegated Managed '
            r'Identity found for specified ClientId/ResourceId/PrincipalId\.","statusCode":400\}'
        ),
        "app-service",
        options={"identity_header": "own"},
        path="/msi/token",
        query={"api-version": "2019-08-01", "client_id": "unknown"},
        headers={"Server": "Kestrel"},
        send={"X-IDENTITY-HEADER": "own"},
    ),
    Capture(
        "https://github.com/MicrosoftDocs/azure-docs/issues/43543, version 2017-09-01",
        400,
        re.compile('.*"Message":"No User Assigned or Delegated .*"StatusCode":400.*'),
        "app-service",
        options={"identity_header": "own"},
        path="/msi/token",
        query={"api-version": "2017-09-01", "clientid": "unknown"},
        send={"secret": "own"},
    ),
]


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda capture: capture.source[-50:])
def test_response_is_that_of_the_capture(
    start_emulator: Start, get: Send, clock: ManualClock, capture: Capture
) -> None:
    emulator = start_emulator(capture.profile, clock=clock, **capture.options)
    query = {"api-version": "2018-02-01", "resource": VAULT, **capture.query}
    for _ in range(capture.before + 1):
        response = get(emulator, capture.path, headers=capture.send, **query)
    if capture.status == 404 and capture.profile == "arc":  # after the challenge
        secret = key_file(response).read_text()
        send = {"Authorization": f"Basic {secret}"}
        response = get(emulator, capture.path, headers=send, **query)
    assert response.status_code == capture.status
    expected = capture.body
    if isinstance(expected, str):
        assert response.text == expected
    else:
        assert expected.fullmatch(response.text), response.text
    for name, pattern in capture.headers.items():
        assert re.fullmatch(pattern, response.headers[name])
    assert not capture.only_headers or set(response.headers) == VM_HEADERS


def test_token_response_is_that_of_a_capture_with_a_date_header(
    start_emulator: Start, request_token: Send, clock: ManualClock
) -> None:
    captured: dict[str, Any] = {
        "expires_in": 86317,
        "expires_on": 1709895997,
        "ext_expires_in": 86399,
        "not_before": 1709809297,
    }
    date = 1709809679  # Thu, 07 Mar 2024 11:07:59 GMT
    issued = captured["not_before"] + 300
    clock.advance(issued - clock.time())
    emulator = start_emulator(clock=clock)
    request_token(emulator)
    clock.advance(date - issued)
    response = request_token(emulator)
    body = response.json()
    # Entra rounds a lifetime of 86,400 seconds down by one.
    expected = {name: captured[name] for name in ("expires_on", "not_before")}
    expected |= {name: captured[name] + 1 for name in ("expires_in", "ext_expires_in")}
    assert {name: int(body[name]) for name in captured} == expected
    assert set(body) == {*captured, "access_token", "client_id", "resource", "token_type"}
    assert (body["resource"], body["token_type"]) == (VAULT, "Bearer")
    assert response.headers["Date"] == "Thu, 07 Mar 2024 11:07:59 GMT"
