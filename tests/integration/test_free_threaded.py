"""Many threads use the cache at the same time, with and without the GIL.

One of the threads advances the fake clock, so that tokens expire all the time.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import itertools
import json
import os
import subprocess
import sys
import sysconfig
import threading
import urllib.request
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from imds_identity import ManagedIdentityCredential
from imds_identity._platform.threads import internal_threads, join_all, start_thread
from imds_identity._sources.azure_vm import ImdsSource
from imds_identity._token_cache import cache as cache_module
from imds_identity._token_cache.cache import TokenCache
from imds_identity.aio import ManagedIdentityCredential as AsyncCredential
from support import KEY, LIFETIME, FakeClock, QuietHandler, new_token, no_jitter, run_concurrently

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from imds_identity._core.token import Token
    from imds_identity._core.token_request import TokenRequest
    from imds_identity.emulator import Emulator

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="not tried on Windows yet")

SCOPES = tuple(f"https://resource-{number}.example" for number in range(3))
CLOCK_STEPS = 400
THREADS = 100
NOT_STARTED = -1


class CountingTokenFactory:
    """A service whose tokens contain their resource and a sequence number.

    Attributes:
        issued: the number of tokens issued.
    """

    def __init__(self, clock: FakeClock) -> None:
        self.issued = 0
        self._clock = clock
        self._lock = threading.Lock()

    def token(self, resource: str = "") -> Token:
        with self._lock:
            self.issued += 1
            return new_token(self._clock, f"{resource} {self.issued}")


class Reader:
    """Requests tokens and checks the resource, expiry and sequence number of each."""

    def __init__(self, clock: FakeClock, token_factory: CountingTokenFactory) -> None:
        self._clock = clock
        self._token_factory = token_factory

    @contextlib.contextmanager
    def checked(self, scope: str, later_than: int = 0) -> Iterator[list[Any]]:
        tokens: list[Any] = []
        requested_at = self._clock.wall()
        yield tokens
        resource, number = tokens[0].token.split()
        assert resource == scope
        assert tokens[0].expires_on + 1 > requested_at
        assert int(number) > later_than

    def read(self, credential: ManagedIdentityCredential, scope: str, **options: Any) -> None:
        with self.checked(scope) as tokens:
            tokens.append(credential.get_token(scope, **options))
        with self.checked(scope) as tokens:
            tokens.append(credential.get_token_info(scope))

    def read_with_claims(
        self, credential: ManagedIdentityCredential, scope: str, claims: str
    ) -> None:
        with self.checked(scope, self._token_factory.issued) as tokens:
            tokens.append(credential.get_token(scope, claims=claims))

    def read_after_clear(self, credential: ManagedIdentityCredential, scope: str) -> None:
        with self.checked(scope, self._token_factory.issued) as tokens:
            credential._client.token_cache.clear()
            tokens.append(credential.get_token(scope))

    async def read_async(self, credential: AsyncCredential, scope: str) -> None:
        with self.checked(scope) as tokens:
            tokens.append(await credential.get_token(scope))


@pytest.fixture
def token_factory(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> CountingTokenFactory:
    token_factory = CountingTokenFactory(clock)

    def fetch(source: ImdsSource, request: TokenRequest, runner: object) -> Token:
        return token_factory.token(request.resource)

    monkeypatch.setattr(ImdsSource, "fetch", fetch)
    # A thread that is not scheduled for a while sees days pass and would give up.
    monkeypatch.setattr(cache_module, "TRIES", 1_000_000)
    return token_factory


def test_no_thread_gets_a_wrong_or_expired_token(
    clock: FakeClock, token_factory: CountingTokenFactory
) -> None:
    token_cache, finished, reader = (
        TokenCache(clock, no_jitter),
        threading.Event(),
        Reader(clock, token_factory),
    )
    credential = ManagedIdentityCredential(_token_cache=token_cache)
    async_credential, names = AsyncCredential(_token_cache=token_cache), itertools.count()

    def advance_clock() -> None:
        try:
            for step in range(1, CLOCK_STEPS):
                clock.seconds += (
                    LIFETIME if not step % 50 else LIFETIME / 2 if not step % 10 else 0.3
                )
                for scope in SCOPES:
                    credential.get_token(scope)
        finally:
            finished.set()

    def repeat(read: Callable[[str], object]) -> None:
        for scope in itertools.cycle(SCOPES):
            read(scope)
            if finished.is_set():
                return

    async def read_all_async(_: object) -> None:
        await asyncio.gather(*(reader.read_async(async_credential, scope) for scope in SCOPES * 3))

    readers: list[Callable[[str], object]] = [
        *[partial(reader.read, credential)] * 5,
        partial(reader.read_after_clear, credential),
        lambda scope: reader.read_with_claims(credential, scope, f"claims-{next(names)}"),
        lambda scope: asyncio.run(read_all_async(scope)),
    ]
    run_concurrently(advance_clock, *(partial(repeat, read) for read in readers))
    assert token_factory.issued > CLOCK_STEPS // 10


def test_one_of_a_hundred_threads_that_miss_fetches(
    clock: FakeClock, token_factory: CountingTokenFactory
) -> None:
    token_cache, rounds = TokenCache(clock, no_jitter), range(1, 6)
    entry, barrier = token_cache.entry(KEY), threading.Barrier(THREADS)
    counts: list[int] = []

    def miss() -> None:
        for number in rounds:
            if barrier.wait() == 0:
                counts.append(token_factory.issued)
                clock.seconds += 2 * LIFETIME
            barrier.wait()
            assert token_cache.get(entry, token_factory.token).value == f" {number}"

    run_concurrently(*[miss] * THREADS)
    assert counts == [number - 1 for number in rounds]


class Stopped(BaseException):
    """The exception that interrupts a waiting thread."""


class InterruptedThread:
    """A thread that requests tokens in a loop and is interrupted repeatedly."""

    def __init__(self, request: Callable[[], object], finished: threading.Event) -> None:
        self._request = request
        self._finished = finished
        self._ident = 0
        self._interruptions = NOT_STARTED
        self._is_past_interruption = False

    def run(self) -> None:
        with contextlib.suppress(Stopped):  # a late interruption
            self._run()

    def _run(self) -> None:
        self._ident, interruptions = threading.get_ident(), 0
        while not self._finished.is_set():
            try:
                while not self._finished.is_set():
                    self._interruptions = interruptions
                    self._request()
            except Stopped:
                interruptions += 1

    def interrupt(self, after: Callable[[], object]) -> None:
        """Interrupt the thread, call ``after``, and wait until the thread fetches again."""
        before = self._interruptions
        if before == NOT_STARTED or self._is_past_interruption:
            return
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(self._ident), ctypes.py_object(Stopped)
        )
        after()
        for _ in range(30):
            if self._interruptions != before:
                return
            threading.Event().wait(0.01)
        # An exception in a finalizer is lost, and another could be raised where nothing catches it.
        self._is_past_interruption = True


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_interrupted_threads_do_not_affect_other_threads(
    clock: FakeClock, token_factory: CountingTokenFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "POLL_SECONDS", 0.02)
    token_cache, finished = TokenCache(clock, no_jitter), threading.Event()
    get_token, names = (
        partial(token_cache.get, token_cache.entry(KEY), token_factory.token),
        itertools.count(),
    )
    # Each uses different claims, so that it waits for its own fetch when it is interrupted.
    threads = [
        InterruptedThread(lambda: get_token(f"claims-{next(names)}"), finished) for _ in range(4)
    ]

    def expire_and_fetch() -> None:
        clock.seconds += LIFETIME
        get_token()

    def interrupt_all() -> None:
        try:
            for thread in threads * 20:
                thread.interrupt(expire_and_fetch)
        finally:
            finished.set()

    run_concurrently(interrupt_all, *(thread.run for thread in threads))
    assert get_token()


def test_internal_threads_can_be_listed_while_threads_start_and_end() -> None:
    finished = threading.Event()

    def start_threads() -> None:
        try:
            for _ in range(200):
                start_thread(int)
        finally:
            finished.set()

    def count() -> None:
        while not finished.is_set():
            assert isinstance(internal_threads(), frozenset)

    other_threads = internal_threads()
    run_concurrently(start_threads, *[count] * 3)
    join_all(10)
    assert internal_threads() <= other_threads


class _FakeImds(QuietHandler, BaseHTTPRequestHandler):
    """An IMDS whose tokens contain the number of requests."""

    def do_GET(self) -> None:
        server: Any = self.server
        server.requests.append(self.path)
        body = (
            f'{{"access_token": "token-{len(server.requests)}", "expires_on": "4102444800", '
            '"token_type": "Bearer", "resource": "https://vault.azure.net"}'
        ).encode()
        self.respond(200, body)


FIRST_TOKEN = f"""
import sys, threading
for module in sys.argv[1:]: __import__(module)
sys.setswitchinterval(1e-6)
barrier, tokens, caches = threading.Barrier({THREADS}), set(), []

def get_first_token():
    barrier.wait()
    import imds_identity
    credential = imds_identity.ManagedIdentityCredential()
    tokens.add(credential.get_token("https://vault.azure.net").token)
    caches.append(credential._client.token_cache)

threads = [threading.Thread(target=get_first_token) for _ in range({THREADS})]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(caches), len(set(map(id, caches))), sorted(tokens))
"""


@pytest.mark.parametrize("imported", [[], ["imds_identity.credential"]])
def test_one_of_a_hundred_starting_threads_fetches_the_first_token(imported: list[str]) -> None:
    """All threads also import the package at the same time."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _FakeImds) as server:
        server.requests = []  # type: ignore[attr-defined]
        threading.Thread(target=partial(server.serve_forever, 0.01), daemon=True).start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            done = subprocess.run(
                [sys.executable, "-c", FIRST_TOKEN, *imported],
                env={**os.environ, "AZURE_POD_IDENTITY_AUTHORITY_HOST": url},
                capture_output=True, text=True, timeout=120, check=False,
            )  # fmt: skip
        finally:
            server.shutdown()
    assert done.stdout.strip() == f"{THREADS} 1 ['token-1']", done.stderr
    assert done.stderr == ""


def test_emulator_handles_requests_while_it_is_changed(
    start_emulator: Callable[..., Emulator],
) -> None:
    emulator, finished = start_emulator(limits=False), threading.Event()
    url = f"{emulator.endpoint}/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://vault.azure.net"
    request = urllib.request.Request(url, headers={"Metadata": "true"})

    def get_response() -> bytes:
        with urllib.request.urlopen(request, timeout=30) as response:
            body: bytes = response.read()
            return body

    def change() -> None:
        try:
            for _ in range(30):
                number = emulator.fault(delay=0.001)
                emulator.schedule_event()
                assert [each for each, _ in emulator.faults] == [number]
                assert all(entry.status in (0, 200) for entry in emulator.requests)
                emulator.revoke_tokens()
                assert len({token.value for token in emulator.issued_tokens}) <= 1
                emulator.reset()
                assert emulator.events == []
        finally:
            finished.set()

    def keep_requesting() -> None:
        while not finished.is_set():
            assert json.loads(get_response())["token_type"] == "Bearer"

    run_concurrently(change, *[keep_requesting] * 4)
    emulator.reset()
    get_response()
    assert len(emulator.token_requests) == 1


@pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED") or not sys._is_gil_enabled(),  # type: ignore[attr-defined]
    reason="the GIL is already off or cannot be turned off",
)
def test_these_tests_pass_with_the_gil_turned_off() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "gil=0", "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
