"""Telling an Azure VM: by its firmware, by its service, and by waiting for that."""

from __future__ import annotations

import functools
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_identity._http.exchange import ConnectFailed, ReadFailed
from imds_identity._sources.firmware import ASSET_TAG, Firmware
from imds_identity.metadata import detect, errors
from imds_identity.metadata._requests import presence
from imds_identity.metadata._requests.presence import _is_azure, _is_azures, answers_as_azure
from metadata_support import Service
from support import FakeClock, RawServer, ResponseFactory

VERSIONS = b'{"apiVersions": ["2017-04-02", "2021-02-01"]}'


def answer(body: bytes, status: bytes = b"200 OK") -> bytes:
    head = b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
    return head + body


def test_the_firmware_goes_before_the_network_and_a_name_before_both() -> None:
    with RawServer(answer(VERSIONS)) as server:
        assert _is_azure(None, Firmware(ASSET_TAG), "http://127.0.0.1:9")
        assert not _is_azure(None, Firmware("", "LENOVO"), server.url)
        assert server.requests == []
        assert _is_azure(None, Firmware("", "Microsoft Corporation"), server.url)
        assert _is_azure(None, Firmware(), server.url)
        assert _is_azure(server.url, Firmware("", "LENOVO"), "http://127.0.0.1:9")
        assert not _is_azure("http://127.0.0.1:9", Firmware(ASSET_TAG), server.url)
        (request, *_) = server.requests
        assert request.startswith(b"GET /metadata/versions HTTP/1.1\r\n")
        assert b"\r\nMetadata: true\r\n" in request


def test_a_named_service_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    # On a busy machine a test's server may take longer to answer than Azure's.
    patient = functools.partial(presence.answers_as_azure, seconds=10)
    monkeypatch.setattr(presence, "answers_as_azure", patient)
    with RawServer(answer(VERSIONS)) as server:
        assert detect(endpoint=server.url)
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", server.url)
        assert detect()
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:9")
        assert not detect()


@pytest.mark.parametrize(
    "said",
    [
        answer(VERSIONS, b"404 Not Found"),
        answer(VERSIONS, b"403 Forbidden"),
        answer(VERSIONS, b"301 Moved Permanently"),
        answer(b"1.0\n2007-01-19\nlatest"),  # EC2
        answer(b"0.1/\ncomputeMetadata/\n"),  # Google
        answer(b'{"apiVersions": []}'),
        answer(b'{"apiVersions": "2017-04-02"}'),
        answer(b'{"apiVersions": ["latest", {}, 3]}'),
        answer(b'["apiVersions"]'),
        answer(b"<html>captive portal</html>"),
        answer(b"[" * 50_000),
        b"\x15\x03\x01\x00\x02",
        b"",
    ],
)
def test_others_at_its_address_are_not_it(said: bytes) -> None:
    assert not _is_azures(said)
    with RawServer(said) as server:
        assert not answers_as_azure(server.url)


def test_a_chunked_answer_is_read() -> None:
    said = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2d\r\n" + VERSIONS + b"\r\n0\r\n\r\n"
    )
    assert _is_azures(said)


@given(st.binary(max_size=100))
def test_whatever_answers_is_yes_or_no(said: bytes) -> None:
    assert _is_azures(said) is False
    assert isinstance(_is_azures(b"HTTP/1.1 200 OK\r\n\r\n" + said), bool)


@pytest.mark.parametrize(
    "endpoint", ["https://127.0.0.1", "127.0.0.1", "http://a b", "http://x:99999", "http://u@h", ""]
)
def test_what_cannot_be_the_service_is_not_asked(endpoint: str) -> None:
    assert not answers_as_azure(endpoint)


def test_nobody_waits_longer_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()
    with RawServer(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n") as server:
        before = time.monotonic()
        assert not answers_as_azure(server.url, 0.05)
        assert time.monotonic() - before < 5
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: never.wait() and [])
    assert not answers_as_azure("http://metadata.invalid", 0.05)
    never.set()


def test_no_http_library_is_loaded_for_it() -> None:
    script = (
        "from imds_identity.metadata import detect; detect(endpoint='http://127.0.0.1:9')\n"
        "import sys; print([m for m in ('requests', 'urllib3', 'http.client') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_service_that_is_slow_to_start_is_waited_for(clock: FakeClock) -> None:
    service, responses = Service(clock), ResponseFactory(clock)
    service.instance_bad = [
        *[ConnectFailed("refused")] * 20,
        ReadFailed("reset"),
        *(responses.error(status) for status in (404, 410, 429, 500, 503)),
        responses.raw(200, "starting"),
    ]
    assert service.client().require().compute.name == "vm-7"
    assert clock.now() - 1000 == 27


def test_the_wait_has_an_end(clock: FakeClock) -> None:
    service = Service(clock)
    service.instance_bad = [ConnectFailed("refused")] * 1000
    with pytest.raises(errors.MetadataUnavailableError, match="no connection"):
        service.client().require(30)
    assert clock.now() - 1000 <= 30
    service.instance_bad = [ResponseFactory(clock).error(403)]
    with pytest.raises(errors.MetadataRefusedError, match="403"):
        service.client().require(30)
