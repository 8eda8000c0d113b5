"""Detection of Azure VMs: by the firmware, by the service, and by waiting for the service."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_identity._http.exchange import ConnectFailed, ReadFailed
from imds_identity._sources.firmware import ASSET_TAG, Firmware
from imds_identity.metadata import detect, errors
from imds_identity.metadata._requests import detection
from imds_identity.metadata._requests.detection import _is_azure_vm, is_azure_service
from metadata_support import FakeService
from support import FakeClock, RawServer, ResponseFactory

VERSIONS = b'{"apiVersions": ["2017-04-02", "2021-02-01"]}'
UNUSED = "http://127.0.0.1:9"


def response(body: bytes, status: bytes = b"200 OK", headers: bytes = b"") -> bytes:
    head = b"HTTP/1.1 %s\r\nContent-Length: %d\r\n%s\r\n" % (status, len(body), headers)
    return head + body


def test_an_endpoint_takes_precedence_over_the_firmware_and_the_firmware_over_a_request() -> None:
    with RawServer(response(VERSIONS)) as server:
        assert _is_azure_vm(None, Firmware(ASSET_TAG), UNUSED)
        assert not _is_azure_vm(None, Firmware("", "LENOVO"), server.url)
        assert server.requests == []
        assert _is_azure_vm(None, Firmware("", "Microsoft Corporation"), server.url)
        assert _is_azure_vm(None, Firmware(), server.url)
        assert _is_azure_vm(server.url, Firmware("", "LENOVO"), UNUSED)
        assert not _is_azure_vm(UNUSED, Firmware(ASSET_TAG), server.url)
        (request, *_) = server.requests
        assert request.startswith(b"GET /metadata/versions HTTP/1.1\r\n")
        assert b"\r\nMetadata: true\r\n" in request


def test_the_endpoint_comes_from_the_argument_or_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # On a busy machine a test's server may respond more slowly than an emulator.
    monkeypatch.setattr(detection, "SECONDS_ELSEWHERE", 10)
    with RawServer(response(VERSIONS)) as server:
        assert detect(endpoint=server.url)
        assert detect(endpoint=f"{server.url}/")
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", server.url)
        assert detect()
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", UNUSED)
        assert not detect()


@pytest.mark.parametrize(
    ("vendor", "given", "used"),
    [
        (Firmware(), None, 5.0),
        (Firmware(ASSET_TAG), None, 5.0),
        (Firmware("", "LENOVO"), None, 0.25),
        (Firmware("", "LENOVO"), 2.0, 2.0),
        (Firmware(), 60.0, 60.0),
    ],
)
def test_the_timeout_is_passed_or_depends_on_the_firmware(
    monkeypatch: pytest.MonkeyPatch, vendor: Firmware, given: float | None, used: float
) -> None:
    timeouts: list[float] = []

    def record(_: str, seconds: float) -> bool:
        timeouts.append(seconds)
        return False

    monkeypatch.setattr(detection, "is_azure_service", record)
    assert not _is_azure_vm(UNUSED, vendor, UNUSED, given)
    assert timeouts == [used]


def test_the_timeout_must_be_positive() -> None:
    for wrong in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="seconds must be a positive number"):
            detect(seconds=wrong)


def test_a_service_that_only_offers_newer_versions_is_azure() -> None:
    with RawServer(response(b'{"apiVersions": ["2031-01-01"]}')) as server:
        assert is_azure_service(server.url, 10)


def test_no_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, UNUSED)
    with RawServer(response(VERSIONS)) as server:
        assert is_azure_service(server.url, 10)


@pytest.mark.parametrize(
    "raw",
    [
        response(VERSIONS, b"404 Not Found"),
        response(VERSIONS, b"403 Forbidden"),
        response(VERSIONS, b"500 Internal Server Error"),
        response(VERSIONS, b"301 Moved Permanently"),
        response(VERSIONS, headers=b"Content-Encoding: gzip\r\n"),
        response(b"1.0\n2007-01-19\nlatest"),  # EC2
        response(b"0.1/\ncomputeMetadata/\n"),  # Google
        response(b'{"apiVersions": []}'),
        response(b'{"apiVersions": "2017-04-02"}'),
        response(b'{"apiVersions": ["latest", {}, 3]}'),
        response(b'["apiVersions"]'),
        response(b"<html>captive portal</html>"),
        response(b"[" * 50_000),
        b"\x15\x03\x01\x00\x02",
        b"",
    ],
)
def test_another_service_at_the_address_is_not_azure(raw: bytes) -> None:
    with RawServer(raw) as server:
        assert not is_azure_service(server.url, 10)
        assert len(server.requests) == 1  # no retries, no redirects


def test_a_chunked_response_is_read() -> None:
    raw = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2d\r\n" + VERSIONS + b"\r\n0\r\n\r\n"
    )
    with RawServer(raw) as server:
        assert is_azure_service(server.url, 10)


@given(status=st.sampled_from([200, 200, 400, 503]), body=st.binary(max_size=100))
def test_any_response_is_azure_or_not(status: int, body: bytes) -> None:
    clock = FakeClock()
    planned = ResponseFactory(clock).raw(status, body)
    with pytest.MonkeyPatch.context() as patch:
        sender = contextlib.nullcontext(lambda request: planned)
        patch.setattr(detection, "direct_sender", lambda clock: sender)
        assert is_azure_service("http://service", clock=clock) is False
    assert clock.slept == []


@pytest.mark.parametrize(
    "endpoint",
    [
        *("https://127.0.0.1", "127.0.0.1", "http://a b", "http://x:99999", "http://u@h.invalid"),
        *("http://", "http://[::1", "file:///etc", ""),
    ],
)
def test_an_invalid_endpoint_is_not_azure(endpoint: str) -> None:
    assert not is_azure_service(endpoint)


@pytest.mark.parametrize(
    ("raw", "then"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b" "),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n", b" " * 100_000),
        (b"", b""),
    ],
    ids=["headers", "body", "large-body", "silence"],
)
def test_a_response_without_end_is_abandoned_in_time(raw: bytes, then: bytes) -> None:
    with RawServer(raw, then, hold=True) as server:
        before = time.monotonic()
        assert not is_azure_service(server.url, 0.25)
        assert time.monotonic() - before < 1


def test_a_slow_name_server_is_abandoned_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve, never = socket.getaddrinfo, threading.Event()

    def slow(host: bytes, port: int, family: int, kind: int, protocol: int, flags: int = 0) -> Any:
        if flags & socket.AI_NUMERICHOST:
            return resolve(host, port, family, kind, protocol, flags)
        return never.wait() and []

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    before = time.monotonic()
    assert not is_azure_service("http://metadata.invalid", 0.25)
    assert time.monotonic() - before < 1
    never.set()


def test_detection_does_not_import_requests() -> None:
    script = (
        f"from imds_identity.metadata import detect; detect(endpoint={UNUSED!r})\n"
        "import sys; print([m for m in ('requests', 'urllib3', 'asyncio') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_require_waits_for_a_service_that_starts_slowly(clock: FakeClock) -> None:
    service, responses = FakeService(clock), ResponseFactory(clock)
    service.instance_outcomes = [
        *[ConnectFailed("refused")] * 20,
        ReadFailed("reset"),
        *(responses.error(status) for status in (404, 410, 429, 500, 503)),
        responses.raw(200, "starting"),
    ]
    assert service.client().require().compute.name == "vm-7"
    assert clock.now() - 1000 == 27


def test_require_raises_after_its_timeout_or_a_permanent_error(clock: FakeClock) -> None:
    service = FakeService(clock)
    service.instance_outcomes = [ConnectFailed("refused")] * 1000
    with pytest.raises(errors.MetadataUnavailableError, match="no connection"):
        service.client().require(30)
    assert clock.now() - 1000 <= 30
    service.instance_outcomes = [ResponseFactory(clock).error(403)]
    with pytest.raises(errors.MetadataRefusedError, match="403"):
        service.client().require(30)
