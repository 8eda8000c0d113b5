"""azure-core's transports with hostile servers, environments, hooks and event loops."""

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
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import requests
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
from azure.core.pipeline.policies import AsyncHTTPPolicy, HTTPPolicy, SansIOHTTPPolicy
from azure.core.pipeline.transport import (
    AioHttpTransport,
    AsyncHttpTransport,
    AsyncioRequestsTransport,
    HttpTransport,
    RequestsTransport,
)

from imds_identity import ManagedIdentityCredential, aio
from imds_identity._azure_core.transports import loop as loop_module
from imds_identity._azure_core.transports.isolated import (
    isolated_aiohttp,
    isolated_requests,
)
from imds_identity._azure_core.transports.loop import LoopLiveness
from imds_identity._azure_core.transports.pipeline import Policies
from imds_identity._azure_core.transports.sender import (
    async_sender,
    check_transport,
    is_async,
    sync_sender,
)
from imds_identity._core.failure import Malformed, Reason, Refused, Unavailable
from imds_identity._http.exchange import ConnectFailed, ReadFailed, TransportError
from imds_identity._http.messages import MAX_BODY, Request, Response, ServerTls
from imds_identity._http.requests_transport import BoundedSession
from imds_identity._token_cache.flight import Interrupted
from support import RawServer, RealTimeClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Self


class CustomRequestsTransport(RequestsTransport):  # type: ignore[misc]  # azure-core's are loaded lazily, as Any
    """A subclass of azure-core's requests transport."""


class CustomAsyncioRequestsTransport(AsyncioRequestsTransport):  # type: ignore[misc]  # azure-core's are loaded lazily, as Any
    """A subclass of azure-core's asyncio transport for requests."""


class CustomAioHttpTransport(AioHttpTransport):  # type: ignore[misc]  # azure-core's are loaded lazily, as Any
    """A subclass of azure-core's aiohttp transport."""


class CustomSession(requests.Session):
    """A subclass of the session of requests."""


def transport_with_custom_session() -> RequestsTransport:
    return RequestsTransport(session=CustomSession())


def custom_aiohttp_transport() -> AioHttpTransport:
    return CustomAioHttpTransport(use_env_settings=False)


STANDARD_TRANSPORTS: dict[str, Callable[[], Any]] = {
    "hooks only": lambda: None,
    "RequestsTransport": RequestsTransport,
    "AioHttpTransport": AioHttpTransport,
    "AsyncioRequestsTransport": AsyncioRequestsTransport,
}
CUSTOM_TRANSPORTS: dict[str, Callable[[], Any]] = {
    "custom sync transport": CustomRequestsTransport,
    "custom session": transport_with_custom_session,
    "custom asyncio transport": CustomAsyncioRequestsTransport,
    "custom aiohttp transport": custom_aiohttp_transport,
}
TRANSPORTS = STANDARD_TRANSPORTS | CUSTOM_TRANSPORTS


async def cancel_all_tasks() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


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
        loop.run_until_complete(cancel_all_tasks())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


async def close(transport: Any) -> None:
    if isinstance(transport, AioHttpTransport):
        await transport.close()


def send_request(transport: Any, request: Request, **hooks: Any) -> Response:
    """Send ``request`` with ``transport``, on a loop if it is async, and return the response."""
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


def aiohttp_session(**settings: Any) -> aiohttp.ClientSession:
    with warnings.catch_warnings():
        # Newer versions deprecate the password of a session, but still send it.
        warnings.simplefilter("ignore", DeprecationWarning)
        if password := settings.pop("password", None):
            settings["auth"] = aiohttp.BasicAuth("me", password)
        return aiohttp.ClientSession(**settings)


def http_response(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    head = [f"HTTP/1.1 {status}", *headers, "Connection: close"]
    lines = [*head, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
ENDLESS_RESPONSES = {
    "silence": (b"", b""),
    "100 Continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a header": (HEAD + b"X: ", b"y"),
    "a body": (HEAD + b"\r\n", b" "),
    "chunks": (CHUNKED, b"1\r\n \r\n"),
    "a chunk's extension": (CHUNKED + b"1;", b"x"),
    "trailers": (CHUNKED + b"0\r\n", b"X: y\r\n"),
}


@pytest.mark.parametrize("kind", TRANSPORTS)
def test_whole_request_has_one_deadline(kind: str) -> None:
    with ThreadPoolExecutor(len(ENDLESS_RESPONSES)) as threads:
        list(threads.map(partial(check_deadline, kind), ENDLESS_RESPONSES))


def check_deadline(kind: str, response: str) -> None:
    with RawServer(*ENDLESS_RESPONSES[response], hold=True) as server:
        clock = RealTimeClock()
        started = clock.now()
        with pytest.raises(ReadFailed):
            send_request(TRANSPORTS[kind](), Request(server.url, {}, seconds=0.3))
        assert clock.now() - started < 5, response
        if kind in STANDARD_TRANSPORTS:
            assert server.closed.wait(5), f"the connection was not closed after {response}"


@pytest.mark.parametrize("kind", TRANSPORTS)
def test_compressed_response_is_rejected_without_decompression(kind: str) -> None:
    bomb = http_response(gzip.compress(bytes(10_000_000)), "Content-Encoding: gzip")
    with RawServer(bomb) as server:
        with pytest.raises(Malformed, match="compressed"):
            send_request(TRANSPORTS[kind](), Request(server.url, {}))
        assert b"\r\naccept-encoding: identity\r\n" in server.requests[0].lower()


@pytest.mark.parametrize("kind", TRANSPORTS)
def test_redirect_is_neither_followed_nor_decompressed(kind: str) -> None:
    with RawServer(http_response(b"")) as other:
        location = f"Location: {other.url}/"
        with RawServer(http_response(b"{}", location, status="307 Elsewhere")) as server:
            request = Request(server.url, {"Authorization": "Basic s3cret"})
            assert send_request(TRANSPORTS[kind](), request).status == 307
        packed = http_response(
            gzip.compress(bytes(1000)), location, "Content-Encoding: gzip", status="302 x"
        )
        with RawServer(packed) as server, pytest.raises(Malformed, match="compressed"):
            send_request(TRANSPORTS[kind](), Request(server.url, {}))
        assert other.requests == []


@pytest.mark.parametrize("kind", TRANSPORTS)
def test_body_is_read_only_up_to_the_limit(kind: str) -> None:
    with RawServer(HEAD + b"\r\n", b"x" * MAX_BODY, every=0) as server:
        with pytest.raises(Malformed, match="larger than"):
            send_request(TRANSPORTS[kind](), Request(server.url, {}))
        assert server.closed.wait(5)


@pytest.mark.parametrize("kind", TRANSPORTS)
def test_proxies_and_passwords_of_the_environment_are_not_used(
    kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password s3cret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with RawServer(http_response(b"")) as proxy, RawServer(http_response(b"{}")) as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        assert (
            send_request(TRANSPORTS[kind](), Request(server.url, {"Metadata": "true"})).body
            == b"{}"
        )
        assert proxy.requests == []
    assert b"\r\nmetadata: true\r\n" in server.requests[0].lower()
    assert b"uthorization" not in server.requests[0]


@pytest.mark.parametrize("session", [requests.Session, CustomSession])
@pytest.mark.parametrize(
    "kind", [RequestsTransport, AsyncioRequestsTransport, CustomRequestsTransport]
)
def test_settings_of_a_requests_session_are_not_used(
    kind: type[Any], session: type[requests.Session]
) -> None:
    with (
        RawServer(http_response(b"")) as proxy,
        RawServer(http_response(b"{}")) as server,
        session() as opened_session,
    ):
        opened_session.auth = ("me", "s3cret")
        opened_session.headers["Authorization"] = "Bearer s3cret"
        opened_session.cookies.set("a", "s3cret")
        for name in ("http", "all", "http://127.0.0.1", "all://127.0.0.1"):
            opened_session.proxies[name] = proxy.url
        assert send_request(kind(session=opened_session), Request(server.url, {})).body == b"{}"
        assert send_request(
            kind(session=opened_session), Request(server.url, {"Authorization": "Basic x"})
        ).body
        assert proxy.requests == []
        assert opened_session.auth == ("me", "s3cret")
    assert all(b"s3cret" not in request and b"ookie" not in request for request in server.requests)
    assert b"\r\nAuthorization: Basic x\r\n" in server.requests[1]


@pytest.mark.parametrize("use_env_settings", [True, False])
@pytest.mark.parametrize("over_internet", [True, False])
def test_settings_of_a_requests_session_are_used_over_the_internet(
    over_internet: bool, use_env_settings: bool
) -> None:
    with requests.Session() as session:
        session.verify, session.cert = "/a/file", "/another"
        session.proxies["http"] = "http://proxy"
        transport = RequestsTransport(session=session, use_env_settings=use_env_settings)
        request = Request("http://127.0.0.1:9/", {}, over_internet=over_internet)
        isolated = isolated_requests(transport, request, RealTimeClock())
        with isolated.session as copied:
            assert isolated is not transport
            assert copied.trust_env == (over_internet and use_env_settings)
            assert copied.verify == ("/a/file" if over_internet else True)
            assert copied.cert == "/another"
            assert copied.hooks is session.hooks
            assert copied.proxies == (session.proxies if over_internet else {})


@pytest.mark.parametrize("kind", [RequestsTransport, AsyncioRequestsTransport])
def test_transport_is_isolated_unless_it_was_closed(kind: type[Any]) -> None:
    request, clock = Request("http://127.0.0.1:9/", {}), RealTimeClock()
    transport = kind()
    with isolated_requests(transport, request, clock).session as session:
        assert type(session) is BoundedSession
    transport.open()
    with isolated_requests(transport, request, clock).session as session:
        assert session is not transport.session
    transport.close()
    assert isolated_requests(transport, request, clock) is None


def test_aiohttp_transport_is_isolated_unless_it_was_closed() -> None:
    request, transport = Request("http://127.0.0.1:9/", {}), AioHttpTransport()

    async def main() -> None:
        async with isolated_aiohttp(transport, request).session as session:
            assert not session.trust_env
        await transport.open()
        async with isolated_aiohttp(transport, request).session as session:
            assert session is not transport.session
            assert session.connector is transport.session.connector
        assert not transport.session.closed
        await transport.close()
        assert isolated_aiohttp(transport, request) is None

    asyncio.run(main())


def test_settings_of_an_aiohttp_session_are_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with (
        RawServer(http_response(b"")) as proxy,
        RawServer(http_response(b"{}")) as server,
        running_loop() as loop,
    ):
        monkeypatch.setenv("HTTP_PROXY", proxy.url)

        async def open_session() -> aiohttp.ClientSession:
            return aiohttp_session(
                password="s3cret",
                cookies={"a": "s3cret"},
                headers={"X-Mine": "s3cret"},
                trust_env=True,
            )

        session = asyncio.run_coroutine_threadsafe(open_session(), loop).result()
        transport = AioHttpTransport(session=session, session_owner=False)
        with async_sender(transport, Policies({}, {}), loop)(RealTimeClock()) as send:
            assert send(Request(server.url, {"Authorization": "Basic x"})).body == b"{}"
        assert not session.closed
        asyncio.run_coroutine_threadsafe(session.close(), loop).result()
        assert proxy.requests == []
    assert b"s3cret" not in server.requests[0]


def test_unsupported_transport_is_rejected() -> None:
    class TrioRequestsTransport:
        pass

    with pytest.raises(TypeError, match="trio only"):
        check_transport(TrioRequestsTransport())
    with pytest.raises(ValueError, match="the environment's proxies"):
        aio.ManagedIdentityCredential(transport=CustomAioHttpTransport())
    aio.ManagedIdentityCredential(transport=custom_aiohttp_transport())
    aio.ManagedIdentityCredential(transport=AioHttpTransport())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"trust_env": True}, "the environment's proxies"),
        ({"password": "s3cret"}, "its session's password"),
        ({"proxy": "http://127.0.0.1:9"}, "its session's proxy"),
    ],
)
def test_custom_transport_with_a_proxy_or_password_is_rejected(
    settings: dict[str, Any], message: str
) -> None:
    async def main() -> None:
        async with aiohttp_session(**settings) as session:
            with pytest.raises(ValueError, match=rf"\b{message}\b"):
                aio.ManagedIdentityCredential(transport=CustomAioHttpTransport(session=session))

    asyncio.run(main())


def policy_with(**methods: Any) -> SansIOHTTPPolicy[Any, Any]:
    return type("SomePolicy", (SansIOHTTPPolicy,), methods)()  # type: ignore[no-any-return]


async def awaited_method(*_: Any) -> None:
    """A method of an async policy."""


class SyncPolicy(HTTPPolicy[Any, Any]):
    def send(self, request: Any) -> Any: ...


class AsyncPolicy(AsyncHTTPPolicy[Any, Any]):
    async def send(self, request: Any) -> Any: ...


@pytest.mark.parametrize("as_sequence", [lambda policy: policy, lambda policy: (policy,)])
@pytest.mark.parametrize(
    ("policy", "on_loop", "in_thread"),
    [
        (SyncPolicy(), False, True),
        (AsyncPolicy(), True, False),
        (policy_with(), True, True),
        (policy_with(on_request=awaited_method), True, False),
        (policy_with(on_response=awaited_method), True, False),
    ],
)
def test_policy_must_be_of_the_kind_of_the_transport(
    policy: object, on_loop: bool, in_thread: bool, as_sequence: Callable[[object], object]
) -> None:
    policies = Policies({}, {"policies": as_sequence(policy)})
    assert policies.need_loop is not in_thread
    for is_allowed, is_on_loop in ((on_loop, True), (in_thread, False)):
        with nullcontext() if is_allowed else pytest.raises(TypeError, match="Policy is a"):
            policies.check(on_loop=is_on_loop)


@pytest.mark.parametrize("kind", TRANSPORTS)
def test_response_hook_can_read_the_whole_response(kind: str) -> None:
    seen: list[Any] = []

    def hook(response: Any) -> None:
        inner = response.http_response
        seen.append((inner.text(), inner.json(), inner.content, inner.body()))

    with RawServer(http_response(b'{"a": 1}', "Content-Type: application/json")) as server:
        response = send_request(TRANSPORTS[kind](), Request(server.url, {}), raw_response_hook=hook)
    assert seen == [('{"a": 1}', {"a": 1}, b'{"a": 1}', b'{"a": 1}')]
    assert response.body == b'{"a": 1}'


@pytest.mark.parametrize(
    ("raised", "expected", "message"),
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
@pytest.mark.parametrize("kind", ["hooks only", "custom sync transport", "AioHttpTransport"])
def test_exception_of_a_hook_is_converted(
    kind: str, raised: Exception, expected: type[Exception], message: str
) -> None:
    def hook(request: Any) -> None:
        raise raised

    request = Request("http://127.0.0.1:9/", {"Authorization": "Basic s3cret"}, seconds=2)
    with pytest.raises(expected, match=message) as caught:
        send_request(TRANSPORTS[kind](), request, raw_request_hook=hook)
    assert caught.value.__cause__ is caught.value.__context__ is None
    if isinstance(caught.value, Refused):
        assert caught.value.reason is Reason.TRANSPORT_ERROR


@pytest.mark.parametrize("kind", [kind for kind in TRANSPORTS if "aio" not in kind.lower()])
@pytest.mark.parametrize(
    ("received", "message"),
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", "SSH-2.0-OpenSSH"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", "the response ended early"),
    ],
)
def test_invalid_response_is_reported_without_library_jargon(
    kind: str, received: bytes, message: str
) -> None:
    with RawServer(received) as server, pytest.raises(ReadFailed, match=f"^{message}") as caught:
        send_request(TRANSPORTS[kind](), Request(server.url, {}))
    assert "Connection aborted" not in str(caught.value)


@pytest.mark.parametrize("kind", TRANSPORTS)
def test_closed_port_is_a_connection_failure(kind: str) -> None:
    with RawServer() as server:
        pass
    with pytest.raises(ConnectFailed):
        send_request(TRANSPORTS[kind](), Request(server.url, {}))


@pytest.mark.parametrize("kind", TRANSPORTS)
def test_invalid_endpoint_is_reported(kind: str) -> None:
    for url in ("http://127.0.0.1:99999/", "ftp://127.0.0.1/"):
        with pytest.raises(Unavailable, match="no request can be sent to") as caught:
            send_request(TRANSPORTS[kind](), Request(url, {}))
        assert caught.value.reason is Reason.INVALID_SETTING


@pytest.mark.parametrize("kind", [*CUSTOM_TRANSPORTS, "AioHttpTransport"])
@pytest.mark.parametrize(
    ("name", "value"), [("certificate", "ab" * 20), ("server_tls", ServerTls(None, "a-name"))]
)
def test_transport_that_cannot_check_a_certificate_is_refused(
    kind: str, name: str, value: object
) -> None:
    with RawServer() as server:
        request = Request(server.url, {})
        setattr(request, name, value)
        with pytest.raises(Refused, match="cannot check") as caught:
            send_request(TRANSPORTS[kind](), request)
        assert caught.value.reason is Reason.UNSUPPORTED
        assert server.requests == []


@pytest.mark.parametrize("kind", TRANSPORTS)
def test_closed_transport_is_reported(kind: str) -> None:
    transport = TRANSPORTS[kind]()
    if transport is None:
        return
    if isinstance(transport, AioHttpTransport):
        transport._has_been_opened = True
    else:
        transport.open()
        transport.close()
    with pytest.raises(Refused, match="already been closed"):
        send_request(transport, Request("http://127.0.0.1:9/", {}))


class SyncStub(HttpTransport[Any, Any]):
    """A transport that calls ``act`` and returns a minimal response, as mocks often do."""

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


def test_mock_response_with_only_text_is_accepted() -> None:
    response = send_request(SyncStub(), Request("http://127.0.0.1:9/", {}))
    assert (response.body, response.headers) == (b"{}", {"content-type": "application/json"})


def test_transport_that_never_returns_is_abandoned() -> None:
    done = threading.Event()
    with pytest.raises(ReadFailed, match=r"within 0\.1 s"):
        send_request(
            SyncStub(lambda: done.wait(30)), Request("http://127.0.0.1:9/", {}, seconds=0.1)
        )
    done.set()


def test_transport_runs_in_the_context_of_its_caller() -> None:
    variable = contextvars.ContextVar("variable", default="")
    variable.set("the caller's")
    seen: list[str] = []
    send_request(SyncStub(lambda: seen.append(variable.get())), Request("http://127.0.0.1:9/", {}))
    assert seen == ["the caller's"]


def test_duration_of_a_hook_is_not_counted_as_network_time() -> None:
    clock = RealTimeClock()
    with (
        RawServer(http_response(b"{}")) as server,
        sync_sender(None, Policies({"raw_request_hook": lambda _: clock.sleep(5)}, {}))(
            clock
        ) as send,
    ):
        response = send(Request(server.url, {}))
    assert response.received_at - response.sent_at < 5


class AsyncStub(AsyncHttpTransport[Any, Any]):
    """An async transport that awaits ``act`` and returns a minimal response."""

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
    with async_sender(AsyncStub(act), Policies({}, {}), loop)(RealTimeClock()) as send:
        try:
            return send(Request("http://127.0.0.1:9/", {}, seconds=seconds))
        except (TransportError, Interrupted, Refused) as error:
            return error


async def sleep_forever() -> None:
    await asyncio.sleep(3600)


@pytest.fixture
def short_poll_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "POLL", 0.02)


async def some_steps() -> None:
    """Let the loop do what is scheduled, whatever the load of the machine is."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.usefixtures("short_poll_interval")
class TestEventLoops:
    def test_closed_loop_interrupts_the_request(self) -> None:
        loop = asyncio.new_event_loop()
        loop.close()
        assert isinstance(outcome_on(loop, sleep_forever), Interrupted)

    def test_stopped_loop_interrupts_the_request(self) -> None:
        loop = asyncio.new_event_loop()
        assert isinstance(outcome_on(loop, sleep_forever), Interrupted)
        # The abandoned request was canceled: it sends nothing when the loop runs again.
        loop.run_until_complete(some_steps())
        assert not asyncio.all_tasks(loop)
        loop.close()

    @pytest.mark.parametrize("closed", [False, True])
    def test_loop_that_stops_during_the_request_interrupts_it(self, closed: bool) -> None:
        loop = asyncio.new_event_loop()
        canceled = threading.Event()

        async def stopping() -> None:
            loop.stop()
            try:
                await sleep_forever()
            except (asyncio.CancelledError, GeneratorExit):
                canceled.set()
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
            loop.run_until_complete(some_steps())
            loop.close()
        assert canceled.is_set()

    def test_loop_that_ends_and_cancels_its_tasks_interrupts_the_request(self) -> None:
        """As ``asyncio.run`` does."""
        loop = asyncio.new_event_loop()

        async def ending() -> None:
            loop.call_soon(loop.stop)
            await sleep_forever()

        def run() -> None:
            loop.run_forever()
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()

        thread = threading.Thread(target=run)
        thread.start()
        # The loop may still appear to run for a moment: then the request is a failed read.
        assert isinstance(outcome_on(loop, ending), Interrupted | ReadFailed)
        thread.join()

    def test_blocked_loop_interrupts_the_request(self) -> None:
        """A synchronous `get_token` call on the loop may wait for this request."""
        done = threading.Event()
        with running_loop() as loop:
            loop.call_soon_threadsafe(done.wait)
            assert isinstance(outcome_on(loop, sleep_forever), Interrupted)
            done.set()

    def test_request_waits_for_a_briefly_busy_loop(self) -> None:
        done = threading.Event()
        threading.Timer(0.06, done.set).start()
        with running_loop() as loop:
            loop.call_soon_threadsafe(done.wait)
            assert isinstance(outcome_on(loop, lambda: asyncio.sleep(0)), Response)

    def test_canceled_request_on_a_running_loop_fails(self) -> None:
        async def raise_cancelled() -> None:
            raise asyncio.CancelledError

        with running_loop() as loop:
            outcome = outcome_on(loop, raise_cancelled)
        assert isinstance(outcome, ReadFailed)
        assert "canceled" in str(outcome)

    @pytest.mark.parametrize("error", [TimeoutError, asyncio.TimeoutError])
    def test_timeout_error_of_a_transport_is_a_failed_read(self, error: type[Exception]) -> None:
        async def late() -> None:
            raise error

        with running_loop() as loop:
            assert isinstance(outcome_on(loop, late), ReadFailed)

    def test_unretrieved_exception_is_not_logged(self) -> None:
        """asyncio logs each exception that is never retrieved, with its frames."""
        logged: list[dict[str, Any]] = []

        async def failing() -> None:
            for task in asyncio.all_tasks():
                task.cancel()
            try:
                await sleep_forever()
            finally:
                raise ConnectFailed("too late to be retrieved")

        with running_loop() as loop:
            loop.set_exception_handler(lambda _loop, context: logged.append(context))
            assert isinstance(outcome_on(loop, failing), ConnectFailed | ReadFailed)
            loop.call_soon_threadsafe(gc.collect)
        assert logged == []

    def test_coroutine_that_ignores_cancellation_is_abandoned(
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


class FakeLoop:
    """A loop that runs callbacks when a test says so.

    Attributes:
        runs: whether it runs each callback at once.
        running: the result of `is_running`.
        closed: the result of `is_closed`.
    """

    def __init__(self, *, runs: bool = True, running: bool = True, closed: bool = False) -> None:
        self.runs, self.running, self.closed = runs, running, closed
        self.waiting: list[Callable[[], object]] = []

    def is_running(self) -> bool:
        return self.running

    def is_closed(self) -> bool:
        return self.closed

    def call_soon_threadsafe(self, callback: Callable[[], object]) -> None:
        if self.closed:
            raise RuntimeError("the loop is closed")
        self.waiting.append(callback)
        if self.runs:
            self.run()

    def run(self) -> None:
        while self.waiting:
            self.waiting.pop()()


def liveness_of(loop: FakeLoop) -> LoopLiveness:
    return LoopLiveness(loop)  # type: ignore[arg-type]


@pytest.mark.usefixtures("short_poll_interval")
class TestLoopLiveness:
    def test_loop_that_runs_its_callbacks_is_alive(self) -> None:
        liveness = liveness_of(FakeLoop())
        assert all(liveness.is_turning() for _ in range(50))
        assert liveness.keeps_turning()

    @pytest.mark.parametrize(
        ("loop", "polls"),
        [
            (FakeLoop(runs=False), 10),
            (FakeLoop(runs=False, running=False), 2),
            (FakeLoop(closed=True, running=False), 2),
        ],
        ids=["blocked", "stopped", "closed"],
    )
    def test_loop_that_runs_no_callback_is_given_up_after_some_polls(
        self, loop: FakeLoop, polls: int
    ) -> None:
        liveness = liveness_of(loop)
        assert [liveness.is_turning() for _ in range(polls + 1)] == [True] * polls + [False]

    def test_loop_that_runs_a_callback_late_gets_all_polls_again(self) -> None:
        loop = FakeLoop(runs=False)
        liveness = liveness_of(loop)
        for _ in range(3):
            assert [liveness.is_turning() for _ in range(11)] == [True] * 10 + [False]
            loop.run()

    @pytest.mark.parametrize(
        "loop",
        [
            FakeLoop(runs=False),
            FakeLoop(runs=False, running=False),
            FakeLoop(closed=True),
            FakeLoop(closed=True, running=False),
        ],
        ids=["blocked", "stopped", "closing", "closed"],
    )
    def test_loop_that_is_ending_does_not_keep_turning(self, loop: FakeLoop) -> None:
        assert not liveness_of(loop).keeps_turning()

    def test_loop_that_is_closed_after_its_last_callback_does_not_keep_turning(self) -> None:
        loop = FakeLoop()
        loop.is_closed = lambda: True  # type: ignore[method-assign]
        assert not liveness_of(loop).keeps_turning()


@pytest.mark.parametrize("kind", ["hooks only", "AioHttpTransport", "AsyncioRequestsTransport"])
def test_sending_imports_nothing(kind: str) -> None:
    """A fork during an import would leave the import lock held in the child."""
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
    with RawServer(http_response(b"{}", "Content-Type: application/json; charset=utf-8")) as server:
        done = subprocess.run(
            [sys.executable, "-c", script, server.url], capture_output=True, text=True, check=True
        )
    assert done.stdout.splitlines() == ["200", "[]"]


def test_sync_credential_rejects_an_async_transport() -> None:
    with pytest.raises(TypeError, match=r"use imds_identity\.aio"):
        ManagedIdentityCredential(transport=AsyncioRequestsTransport())
