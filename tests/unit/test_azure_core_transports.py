"""azure-core's transports, each against servers, environments, hooks and loops that mean harm."""

from __future__ import annotations

import asyncio
import contextvars
import errno
import gc
import gzip
import subprocess
import sys
import threading
import warnings
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import requests
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
from azure.core.pipeline.transport import (
    AioHttpTransport,
    AsyncHttpTransport,
    AsyncioRequestsTransport,
    HttpTransport,
    RequestsTransport,
)

from imds_identity import ManagedIdentityCredential, aio
from imds_identity._azure_core.transports import loop as loop_module
from imds_identity._azure_core.transports.pipeline import Policies
from imds_identity._azure_core.transports.sender import (
    async_sender,
    check_transport,
    is_async,
    sync_sender,
)
from imds_identity._core.failure import Malformed, Refused, Unavailable
from imds_identity._http.bounded import MAX_BODY
from imds_identity._http.exchange import ConnectFailed, ReadFailed, TransportError
from imds_identity._http.messages import Request, Response
from imds_identity._token_cache.flight import Interrupted
from support import RawServer, RealTimeClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Self


class OwnRequests(RequestsTransport):  # type: ignore[misc]  # azure-core's are loaded lazily, as Any
    """A kind that is not azure-core's own."""


class OwnAsyncioRequests(AsyncioRequestsTransport):  # type: ignore[misc]  # azure-core's are loaded lazily, as Any
    """Likewise."""


class OwnAioHttp(AioHttpTransport):  # type: ignore[misc]  # azure-core's are loaded lazily, as Any
    """Likewise."""


class OwnSession(requests.Session):
    """Likewise."""


def own_session() -> RequestsTransport:
    return RequestsTransport(session=OwnSession())


def own_aiohttp() -> AioHttpTransport:
    return OwnAioHttp(use_env_settings=False)


KNOWN: dict[str, Callable[[], Any]] = {
    "hooks only": lambda: None,
    "RequestsTransport": RequestsTransport,
    "AioHttpTransport": AioHttpTransport,
    "AsyncioRequestsTransport": AsyncioRequestsTransport,
}
OTHERS: dict[str, Callable[[], Any]] = {
    "a sync kind of its own": OwnRequests,
    "a session of its own": own_session,
    "an asyncio kind of its own": OwnAsyncioRequests,
    "an aiohttp kind of its own": own_aiohttp,
}
KINDS = KNOWN | OTHERS


async def end_of_all() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


@contextmanager
def running_loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(end_of_all())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


async def close(transport: Any) -> None:
    if isinstance(transport, AioHttpTransport):
        await transport.close()


def sent(transport: Any, request: Request, **hooks: Any) -> Response:
    """What comes of ``request``, sent by ``transport`` on a loop if that is its kind."""
    clock = RealTimeClock()
    if transport is None or not is_async(transport):
        with sync_sender(transport, Policies(hooks, {}))(clock) as send:
            return send(request)
    check_transport(transport)
    with running_loop() as loop, async_sender(transport, Policies(hooks, {}), loop)(clock) as send:
        try:
            return send(request)
        finally:
            asyncio.run_coroutine_threadsafe(close(transport), loop).result()


def aiohttp_session(**brought: Any) -> aiohttp.ClientSession:
    with warnings.catch_warnings():
        # Newer versions call a session's password deprecated, and still send it.
        warnings.simplefilter("ignore", DeprecationWarning)
        if password := brought.pop("password", None):
            brought["auth"] = aiohttp.BasicAuth("me", password)
        return aiohttp.ClientSession(**brought)


def answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    head = [f"HTTP/1.1 {status}", *headers, "Connection: close"]
    lines = [*head, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
ENDLESS = {
    "silence": (b"", b""),
    "100 Continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a header": (HEAD + b"X: ", b"y"),
    "a body": (HEAD + b"\r\n", b" "),
    "chunks": (CHUNKED, b"1\r\n \r\n"),
    "a chunk's extension": (CHUNKED + b"1;", b"x"),
    "trailers": (CHUNKED + b"0\r\n", b"X: y\r\n"),
}


@pytest.mark.parametrize("what", ENDLESS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_request_has_one_deadline(kind: str, what: str) -> None:
    with RawServer(*ENDLESS[what], hold=True) as server:
        clock = RealTimeClock()
        started = clock.now()
        with pytest.raises(ReadFailed):
            sent(KINDS[kind](), Request(server.url, {}, seconds=0.3))
        assert clock.now() - started < 5
        if kind in KNOWN:
            assert server.closed.wait(5), "the connection was not closed"


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_inflated(kind: str) -> None:
    bomb = answer(gzip.compress(bytes(10_000_000)), "Content-Encoding: gzip")
    with RawServer(bomb) as server:
        with pytest.raises(Malformed, match="compressed"):
            sent(KINDS[kind](), Request(server.url, {}))
        assert b"\r\naccept-encoding: identity\r\n" in server.requests[0].lower()


@pytest.mark.parametrize("kind", KINDS)
def test_a_redirect_leads_nowhere_and_is_not_inflated(kind: str) -> None:
    with RawServer(answer(b"")) as other:
        where = f"Location: {other.url}/"
        with RawServer(answer(b"{}", where, status="307 Elsewhere")) as server:
            request = Request(server.url, {"Authorization": "Basic s3cret"})
            assert sent(KINDS[kind](), request).status == 307
        packed = answer(gzip.compress(bytes(1000)), where, "Content-Encoding: gzip", status="302 x")
        with RawServer(packed) as server, pytest.raises(Malformed, match="compressed"):
            sent(KINDS[kind](), Request(server.url, {}))
        assert other.requests == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_body_is_read_to_its_bound_and_no_further(kind: str) -> None:
    with RawServer(HEAD + b"\r\n", b"x" * MAX_BODY, every=0) as server:
        with pytest.raises(Malformed, match="larger than"):
            sent(KINDS[kind](), Request(server.url, {}))
        assert server.closed.wait(5)


@pytest.mark.parametrize("kind", KINDS)
def test_no_proxy_password_or_cookie_of_the_environment_is_used(
    kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password s3cret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with RawServer(answer(b"")) as proxy, RawServer(answer(b"{}")) as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        assert sent(KINDS[kind](), Request(server.url, {"Metadata": "true"})).body == b"{}"
        assert proxy.requests == []
    assert b"\r\nmetadata: true\r\n" in server.requests[0].lower()
    assert b"uthorization" not in server.requests[0]


@pytest.mark.parametrize("session", [requests.Session, OwnSession])
@pytest.mark.parametrize("kind", [RequestsTransport, AsyncioRequestsTransport, OwnRequests])
def test_what_a_session_has_of_its_own_is_not_used(
    kind: type[Any], session: type[requests.Session]
) -> None:
    with RawServer(answer(b"")) as proxy, RawServer(answer(b"{}")) as server, session() as mine:
        mine.auth = ("me", "s3cret")
        mine.headers["Authorization"] = "Bearer s3cret"
        mine.cookies.set("a", "s3cret")
        for name in ("http", "all", "http://127.0.0.1", "all://127.0.0.1"):
            mine.proxies[name] = proxy.url
        assert sent(kind(session=mine), Request(server.url, {})).body == b"{}"
        assert sent(kind(session=mine), Request(server.url, {"Authorization": "Basic x"})).body
        assert proxy.requests == []
        assert mine.auth == ("me", "s3cret")
    assert all(b"s3cret" not in request and b"ookie" not in request for request in server.requests)
    assert b"\r\nAuthorization: Basic x\r\n" in server.requests[1]


def test_what_an_aiohttp_session_has_of_its_own_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with (
        RawServer(answer(b"")) as proxy,
        RawServer(answer(b"{}")) as server,
        running_loop() as loop,
    ):
        monkeypatch.setenv("HTTP_PROXY", proxy.url)

        async def opened() -> aiohttp.ClientSession:
            return aiohttp_session(
                password="s3cret",
                cookies={"a": "s3cret"},
                headers={"X-Mine": "s3cret"},
                trust_env=True,
            )

        session = asyncio.run_coroutine_threadsafe(opened(), loop).result()
        transport = AioHttpTransport(session=session, session_owner=False)
        with async_sender(transport, Policies({}, {}), loop)(RealTimeClock()) as send:
            assert send(Request(server.url, {"Authorization": "Basic x"})).body == b"{}"
        assert not session.closed
        asyncio.run_coroutine_threadsafe(session.close(), loop).result()
        assert proxy.requests == []
    assert b"s3cret" not in server.requests[0]


def test_a_transport_that_cannot_be_told_is_refused() -> None:
    class TrioRequestsTransport:
        pass

    with pytest.raises(TypeError, match="trio only"):
        check_transport(TrioRequestsTransport())
    with pytest.raises(ValueError, match="the environment's proxies"):
        aio.ManagedIdentityCredential(transport=OwnAioHttp())
    aio.ManagedIdentityCredential(transport=own_aiohttp())
    aio.ManagedIdentityCredential(transport=AioHttpTransport())


@pytest.mark.parametrize(
    ("brought", "named"),
    [
        ({"trust_env": True}, "proxies"),
        ({"password": "s3cret"}, "password"),
        ({"proxy": "http://127.0.0.1:9"}, "session's proxy"),
    ],
)
def test_a_kind_of_its_own_may_bring_no_proxy_and_no_password(
    brought: dict[str, Any], named: str
) -> None:
    async def main() -> None:
        async with aiohttp_session(**brought) as session:
            with pytest.raises(ValueError, match=named):
                aio.ManagedIdentityCredential(transport=OwnAioHttp(session=session))

    asyncio.run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_a_hook_is_shown_the_whole_answer(kind: str) -> None:
    seen: list[Any] = []

    def look(response: Any) -> None:
        inner = response.http_response
        seen.append((inner.text(), inner.json(), inner.content, inner.body()))

    with RawServer(answer(b'{"a": 1}', "Content-Type: application/json")) as server:
        response = sent(KINDS[kind](), Request(server.url, {}), raw_response_hook=look)
    assert seen == [('{"a": 1}', {"a": 1}, b'{"a": 1}', b'{"a": 1}')]
    assert response.body == b'{"a": 1}'


@pytest.mark.parametrize(
    ("raised", "kind_of", "words"),
    [
        (
            ValueError("broken: eyJhbGciOiJub25lIn0.x.y\n"),
            Refused,
            "raised ValueError: broken: <",
        ),
        (StopIteration("x"), Refused, "StopIteration|RuntimeError"),
        (TimeoutError("too late"), ReadFailed, "too late"),
        (ConnectionResetError("gone"), ReadFailed, "gone"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), ConnectFailed, "refused"),
        (HttpResponseError("broken off"), ReadFailed, "broken off"),
        (ClientAuthenticationError("no"), Refused, "ClientAuthenticationError"),
        (requests.exceptions.ConnectionError("gone"), ReadFailed, "gone"),
        (Unavailable("mine"), Unavailable, "mine"),
    ],
)
@pytest.mark.parametrize("kind", ["hooks only", "a sync kind of its own", "AioHttpTransport"])
def test_whatever_a_hook_raises_comes_out_as_one_of_ours(
    kind: str, raised: Exception, kind_of: type[Exception], words: str
) -> None:
    def hook(request: Any) -> None:
        raise raised

    request = Request("http://127.0.0.1:9/", {"Authorization": "Basic s3cret"}, seconds=2)
    with pytest.raises(kind_of, match=words) as caught:
        sent(KINDS[kind](), request, raw_request_hook=hook)
    assert caught.value.__cause__ is caught.value.__context__ is None


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "aio" not in kind.lower()])
@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", "SSH-2.0-OpenSSH"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", "IncompleteRead"),
    ],
)
def test_what_is_no_answer_is_told_in_plain_words(kind: str, said: bytes, words: str) -> None:
    with RawServer(said) as server, pytest.raises(ReadFailed, match=f"^{words}") as caught:
        sent(KINDS[kind](), Request(server.url, {}))
    assert "Connection aborted" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_there_is_unreached(kind: str) -> None:
    with RawServer() as server:
        pass
    with pytest.raises(ConnectFailed):
        sent(KINDS[kind](), Request(server.url, {}))


@pytest.mark.parametrize("kind", KINDS)
def test_an_endpoint_that_is_no_url_is_said_to_be_wrong(kind: str) -> None:
    with pytest.raises(Unavailable, match="no request can be sent to"):
        sent(KINDS[kind](), Request("http://127.0.0.1:99999/", {}))


@pytest.mark.parametrize("kind", KINDS)
def test_a_transport_that_was_closed_says_so(kind: str) -> None:
    transport = KINDS[kind]()
    if transport is None:
        return
    if isinstance(transport, AioHttpTransport):
        transport._has_been_opened = True
    else:
        transport.open()
        transport.close()
    with pytest.raises(Refused, match="already been closed"):
        sent(transport, Request("http://127.0.0.1:9/", {}))


class Stub(HttpTransport[Any, Any]):
    """Does as it is told, and answers as the mocks of tests do."""

    def __init__(self, act: Callable[[], Any] = lambda: None) -> None:
        self.act = act

    def send(self, request: Any, **kwargs: Any) -> Any:
        self.act()
        headers = {"Content-Type": "application/json"}
        return SimpleNamespace(status_code=200, headers=headers, text=lambda encoding=None: "{}")

    def open(self) -> None: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None: ...


def test_a_stand_in_that_only_has_text_will_do() -> None:
    response = sent(Stub(), Request("http://127.0.0.1:9/", {}))
    assert (response.body, response.headers) == (b"{}", {"content-type": "application/json"})


def test_a_transport_that_never_returns_is_left_behind() -> None:
    done = threading.Event()
    with pytest.raises(ReadFailed, match=r"within 0\.1 s"):
        sent(Stub(lambda: done.wait(30)), Request("http://127.0.0.1:9/", {}, seconds=0.1))
    done.set()


def test_a_transport_runs_in_its_callers_context() -> None:
    variable = contextvars.ContextVar("variable", default="")
    variable.set("the caller's")
    seen: list[str] = []
    sent(Stub(lambda: seen.append(variable.get())), Request("http://127.0.0.1:9/", {}))
    assert seen == ["the caller's"]


def test_the_time_a_hook_takes_is_not_the_services() -> None:
    clock = RealTimeClock()
    with (
        RawServer(answer(b"{}")) as server,
        sync_sender(None, Policies({"raw_request_hook": lambda _: clock.sleep(5)}, {}))(
            clock
        ) as send,
    ):
        response = send(Request(server.url, {}))
    assert response.received_at - response.sent_at < 5


class Coroutine(AsyncHttpTransport[Any, Any]):
    """Awaits what it is told."""

    def __init__(self, act: Callable[[], Any]) -> None:
        self.act = act

    async def send(self, request: Any, **kwargs: Any) -> Any:
        await self.act()
        return SimpleNamespace(status_code=200, headers={}, text=lambda encoding=None: "{}")

    async def open(self) -> None: ...
    async def close(self) -> None: ...
    async def __aexit__(self, *args: object) -> None: ...


def outcome_on(
    loop: asyncio.AbstractEventLoop, act: Callable[[], Any], seconds: float = 30
) -> BaseException | Response:
    with async_sender(Coroutine(act), Policies({}, {}), loop)(RealTimeClock()) as send:
        try:
            return send(Request("http://127.0.0.1:9/", {}, seconds=seconds))
        except (TransportError, Interrupted, Refused) as error:
            return error


async def forever() -> None:
    await asyncio.sleep(3600)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "POLL", 0.02)


@pytest.mark.usefixtures("impatient")
class TestLoops:
    def test_one_that_is_closed(self) -> None:
        loop = asyncio.new_event_loop()
        loop.close()
        assert isinstance(outcome_on(loop, forever), Interrupted)

    def test_one_that_does_not_run(self) -> None:
        loop = asyncio.new_event_loop()
        assert isinstance(outcome_on(loop, forever), Interrupted)
        # It runs again: what was given up has been cancelled, and sends nothing any more.
        loop.run_until_complete(asyncio.sleep(0.01))
        assert not asyncio.all_tasks(loop)
        loop.close()

    @pytest.mark.parametrize("closed", [False, True])
    def test_one_that_stops_in_the_middle(self, closed: bool) -> None:
        loop = asyncio.new_event_loop()
        cancelled = threading.Event()

        async def stopping() -> None:
            loop.stop()
            try:
                await forever()
            except (asyncio.CancelledError, GeneratorExit):
                cancelled.set()
                raise

        def run() -> None:
            loop.run_forever()
            if closed:
                loop.close()

        thread = threading.Thread(target=run)
        thread.start()
        assert isinstance(outcome_on(loop, stopping), Interrupted)
        thread.join()
        if not closed:
            loop.run_until_complete(asyncio.sleep(0.01))
            loop.close()
        assert cancelled.is_set()

    def test_one_that_ends_and_cancels_what_it_has(self) -> None:
        """As ``asyncio.run`` does."""
        loop = asyncio.new_event_loop()

        async def ending() -> None:
            loop.call_soon(loop.stop)
            await forever()

        def run() -> None:
            loop.run_forever()
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()

        thread = threading.Thread(target=run)
        thread.start()
        # It may still be seen running for an instant: then the request is one that was dropped.
        assert isinstance(outcome_on(loop, ending), Interrupted | ReadFailed)
        thread.join()

    def test_one_that_somebody_blocks(self) -> None:
        """By a call for a token, perhaps, that waits for this very request."""
        done = threading.Event()
        with running_loop() as loop:
            loop.call_soon_threadsafe(done.wait)
            assert isinstance(outcome_on(loop, forever), Interrupted)
            done.set()

    def test_one_that_is_busy_for_a_moment_is_waited_for(self) -> None:
        done = threading.Event()
        threading.Timer(0.06, done.set).start()
        with running_loop() as loop:
            loop.call_soon_threadsafe(done.wait)
            assert isinstance(outcome_on(loop, lambda: asyncio.sleep(0)), Response)

    def test_one_that_goes_on_after_a_cancellation(self) -> None:
        async def cancelled() -> None:
            raise asyncio.CancelledError

        with running_loop() as loop:
            outcome = outcome_on(loop, cancelled)
        assert isinstance(outcome, ReadFailed)
        assert "canceled" in str(outcome)

    @pytest.mark.parametrize("error", [TimeoutError, asyncio.TimeoutError])
    def test_a_bare_time_out_is_not_taken_for_our_own(self, error: type[Exception]) -> None:
        async def late() -> None:
            raise error

        with running_loop() as loop:
            assert isinstance(outcome_on(loop, late), ReadFailed)

    def test_an_error_that_nobody_waits_for_is_not_logged(self) -> None:
        """asyncio logs, with its frames, an exception that nobody takes."""
        told: list[dict[str, Any]] = []

        async def failing() -> None:
            for task in asyncio.all_tasks():
                task.cancel()
            try:
                await forever()
            finally:
                raise ConnectFailed("too late for anybody")

        with running_loop() as loop:
            loop.set_exception_handler(lambda _loop, context: told.append(context))
            assert isinstance(outcome_on(loop, failing), ConnectFailed | ReadFailed)
            loop.call_soon_threadsafe(gc.collect)
        assert told == []

    def test_a_coroutine_that_will_not_be_cancelled_is_left_behind(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(loop_module, "_GRACE", 0.1)
        done = threading.Event()

        async def stubborn() -> None:
            while not done.is_set():
                try:
                    await asyncio.sleep(0.01)
                except asyncio.CancelledError:
                    continue

        with running_loop() as loop:
            assert isinstance(outcome_on(loop, stubborn, seconds=0.1), ReadFailed)
            done.set()


@pytest.mark.parametrize("kind", ["hooks only", "AioHttpTransport", "AsyncioRequestsTransport"])
def test_sending_imports_nothing(kind: str) -> None:
    """Or a fork in the middle of an import leaves the child its lock."""
    script = f"""
import asyncio, sys
from imds_identity import aio
from imds_identity._platform.clock import SYSTEM_CLOCK
from imds_identity._http.messages import Request
from azure.core.pipeline.transport import {kind if kind != "hooks only" else "HttpTransport"}
hook = lambda response: None
transport = None if {kind!r} == "hooks only" else {kind if kind != "hooks only" else None}()
credential = aio.ManagedIdentityCredential(transport=transport, raw_response_hook=hook)
async def main():
    open_sender = credential._sender()
    def once():
        with open_sender(SYSTEM_CLOCK) as send:
            return send(Request(sys.argv[1], {{"Metadata": "true"}})).status
    await asyncio.to_thread(int)
    before = set(sys.modules)
    print(await asyncio.to_thread(once))
    print(sorted(set(sys.modules) - before))
asyncio.run(main())
"""
    with RawServer(answer(b"{}", "Content-Type: application/json; charset=utf-8")) as server:
        done = subprocess.run(
            [sys.executable, "-c", script, server.url], capture_output=True, text=True, check=True
        )
    assert done.stdout.splitlines() == ["200", "[]"]


def test_the_sync_credential_still_refuses_an_async_transport() -> None:
    with pytest.raises(TypeError, match=r"use imds_identity\.aio"):
        ManagedIdentityCredential(transport=AsyncioRequestsTransport())
