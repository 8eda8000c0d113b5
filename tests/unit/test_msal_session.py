"""MSAL's session against servers that lead astray, drip, flood and come and go."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any

import pytest

from imds_identity._core.failure import Failure, Malformed, Unavailable
from imds_identity._core.identity import choose
from imds_identity._core.token_request import TokenRequest
from imds_identity._sources import msal_session
from imds_identity._sources.detect import detect
from imds_identity._sources.msal_session import MsalSession
from imds_identity._wire.bounded import BoundedSession
from imds_identity._wire.channel import Channel
from imds_identity._wire.exchange import Dropped
from imds_identity._wire.sender import requests_sender
from support import FakeClock, RawServer, RunningClock, middle

if TYPE_CHECKING:
    from collections.abc import Iterator


def answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    head = [f"HTTP/1.1 {status}", *headers, "Connection: close"]
    lines = [*head, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def fetch(clock: FakeClock) -> None:
    with requests_sender(clock) as send:
        wanted = TokenRequest("https://vault.azure.net", choose(), None)
        detect().fetch(wanted, Channel(send, clock, random=middle))


@pytest.fixture
def clock() -> RunningClock:
    return RunningClock()


@pytest.fixture
def session(clock: FakeClock) -> Iterator[MsalSession]:
    with MsalSession(clock, middle) as session:
        yield session


def test_an_answer_is_read_as_msal_reads_it(session: MsalSession) -> None:
    with RawServer(answer(b'{"a": 1}')) as server:
        got = session.get(server.url, headers={"X-IDENTITY-HEADER": "h"})
    assert (got.json(), got.text, got.status_code) == ({"a": 1}, '{"a": 1}', 200)
    assert b"\r\nAccept-Encoding: identity\r\n" in server.requests[0]


@pytest.mark.parametrize("said", ["application/json", "text/plain; charset=utf-16", "no-such"])
def test_json_is_read_as_utf_8(session: MsalSession, said: str) -> None:
    with RawServer(answer('{"a": "ä"}'.encode(), f"Content-Type: {said}")) as server:
        assert session.get(server.url).text == '{"a": "ä"}'


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(session: MsalSession, method: str, status: int) -> None:
    with RawServer(answer(b"")) as other:
        leading = answer(b"", f"Location: {other.url}/", status=f"{status} Elsewhere")
        with RawServer(leading) as server:
            got = getattr(session, method)(server.url, headers={"X-IDENTITY-HEADER": "s3cret"})
        assert got.status_code == status
        assert other.requests == []


@pytest.mark.parametrize("name", ["app-service", "azure-ml"])
def test_a_hosts_secret_reaches_no_other_server(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with RawServer(answer(b"{}")) as other:
        leading = answer(b"", f"Location: {other.url}/", status="307 Elsewhere")
        with RawServer(leading) as server:
            variables = {
                "app-service": {"IDENTITY_ENDPOINT": server.url, "IDENTITY_HEADER": "s3cret"},
                "azure-ml": {"MSI_ENDPOINT": server.url, "MSI_SECRET": "s3cret"},
            }[name]
            for variable, value in variables.items():
                monkeypatch.setenv(variable, value)
            monkeypatch.setenv("HTTP_PROXY", other.url)
            with pytest.raises(Failure):
                fetch(RunningClock())
        assert any(b"s3cret" in request for request in server.requests)
        assert other.requests == []


def test_only_what_goes_over_the_internet_uses_proxies_and_nothing_netrc(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password s3cret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with RawServer(answer(b"{}")) as proxy, RawServer(answer(b"{}")) as server:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        sessions = ((BoundedSession(clock), server), (MsalSession(clock, middle), proxy))
        for session, asked in sessions:
            with session:
                session.get(server.url, timeout=(2, 5))
            assert len(asked.requests) == 1
            assert b"uthorization" not in asked.requests[0]
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (b"", b""),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b" "),
    ],
)
def test_a_fetch_has_one_deadline(
    first: bytes, then: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(msal_session, "FETCH_SECONDS", 0.5)
    clock = RunningClock()
    started = clock.now()
    with (
        RawServer(first, then, hold=True) as server,
        MsalSession(clock, middle) as session,
        pytest.raises(Dropped),
    ):
        session.get(server.url)
    assert clock.now() - started < 5


def test_nothing_is_inflated(session: MsalSession) -> None:
    packed = answer(gzip.compress(bytes(10_000_000)), "Content-Encoding: gzip")
    with RawServer(packed) as server, pytest.raises(Malformed, match="compressed"):
        session.get(server.url)


def test_a_flood_is_not_read(session: MsalSession) -> None:
    with (
        RawServer(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 100_000, every=0) as server,
        pytest.raises(Malformed, match="larger than"),
    ):
        session.get(server.url)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_five_times(
    session: MsalSession, clock: FakeClock, status: int
) -> None:
    with RawServer(answer(b"", status=f"{status} x")) as server:
        assert session.get(server.url).status_code == status
        assert len(server.requests) == 5
    assert clock.slept == [0.625, 1.25, 2.5, 5.0]


def test_what_will_not_pass_is_tried_once(session: MsalSession) -> None:
    with RawServer(answer(b"", status="400 x")) as server:
        assert session.get(server.url).status_code == 400
        assert len(server.requests) == 1


@pytest.mark.parametrize(("asked", "slept"), [("3", [3.75] * 3 + [5.0]), ("3600", []), ("²", None)])
def test_a_retry_after_is_kept_if_there_is_the_time(
    session: MsalSession, clock: FakeClock, asked: str, slept: list[float] | None
) -> None:
    busy = answer(b"", f"Retry-After: {asked}", status="503 x")
    with RawServer(busy) as server:
        assert session.get(server.url).status_code == 503
    assert clock.slept == (slept if slept is not None else [0.625, 1.25, 2.5, 5.0])


def test_a_host_that_is_not_there_is_tried_again_and_unavailable(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RawServer() as server:
        pass
    monkeypatch.setenv("IDENTITY_ENDPOINT", server.url)
    monkeypatch.setenv("IDENTITY_HEADER", "s3cret")
    with pytest.raises(Unavailable, match=r"nothing answers.*IDENTITY_ENDPOINT"):
        fetch(clock)
    assert len(clock.slept) == 2


def test_an_answer_that_breaks_off_is_an_error(session: MsalSession) -> None:
    with (
        RawServer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{") as server,
        pytest.raises(Dropped, match="broke off"),
    ):
        session.get(server.url)
