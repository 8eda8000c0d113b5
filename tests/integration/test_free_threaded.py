"""Many threads at once, with the GIL and without: nothing leans on it.

The clock is moved by one of the threads, so that whatever takes a day happens all the time.
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
from imds_identity._sources.imds import ImdsSource
from imds_identity._token_cache import cache as cache_module
from imds_identity._token_cache.cache import TokenCache
from imds_identity.aio import ManagedIdentityCredential as AsyncCredential
from support import KEY, LIFE, FakeClock, no_jitter, run_concurrently, token_now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from imds_identity._core.token import Token
    from imds_identity._core.token_request import TokenRequest
    from imds_identity.emulator import Emulator

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="not tried on Windows yet")

SCOPES = tuple(f"https://resource-{number}.example" for number in range(3))
MOVES = 400
CROWD = 100
NOT_YET = -1


class CountingTokenFactory:
    """A service that answers at once. Its tokens say what they are for, and how many came before.

    Attributes:
        given: how many tokens it has given.
    """

    def __init__(self, clock: FakeClock) -> None:
        self.given = 0
        self._clock = clock
        self._lock = threading.Lock()

    def token(self, resource: str = "") -> Token:
        with self._lock:
            self.given += 1
            return token_now(self._clock, f"{resource} {self.given}")


class Reader:
    """Asks for tokens, and checks each: for what was asked, good, and as late as it has to be."""

    def __init__(self, clock: FakeClock, token_factory: CountingTokenFactory) -> None:
        self._clock = clock
        self._token_factory = token_factory

    @contextlib.contextmanager
    def checked(self, scope: str, later_than: int = 0) -> Iterator[list[Any]]:
        tokens: list[Any] = []
        asked_at = self._clock.wall()
        yield tokens
        resource, number = tokens[0].token.split()
        assert resource == scope
        assert tokens[0].expires_on + 1 > asked_at
        assert int(number) > later_than

    def ask(self, credential: ManagedIdentityCredential, scope: str, **how: Any) -> None:
        with self.checked(scope) as tokens:
            tokens.append(credential.get_token(scope, **how))
        with self.checked(scope) as tokens:
            tokens.append(credential.get_token_info(scope))

    def ask_anew(self, credential: ManagedIdentityCredential, scope: str, claims: str) -> None:
        with self.checked(scope, self._token_factory.given) as tokens:
            tokens.append(credential.get_token(scope, claims=claims))

    def ask_after_clearing(self, credential: ManagedIdentityCredential, scope: str) -> None:
        with self.checked(scope, self._token_factory.given) as tokens:
            credential._client.token_cache.clear()
            tokens.append(credential.get_token(scope))

    async def ask_async(self, credential: AsyncCredential, scope: str) -> None:
        with self.checked(scope) as tokens:
            tokens.append(await credential.get_token(scope))


@pytest.fixture
def token_factory(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> CountingTokenFactory:
    token_factory = CountingTokenFactory(clock)

    def fetch(source: ImdsSource, wanted: TokenRequest, runner: object) -> Token:
        return token_factory.token(wanted.resource)

    monkeypatch.setattr(ImdsSource, "fetch", fetch)
    # A thread that is never scheduled sees days go by, and would give up.
    monkeypatch.setattr(cache_module, "TRIES", 1_000_000)
    return token_factory


def test_nobody_gets_a_token_that_is_another_s_or_has_ended(
    clock: FakeClock, token_factory: CountingTokenFactory
) -> None:
    token_cache, over, reader = (
        TokenCache(clock, no_jitter),
        threading.Event(),
        Reader(clock, token_factory),
    )
    credential = ManagedIdentityCredential(_token_cache=token_cache)
    beside, names = AsyncCredential(_token_cache=token_cache), itertools.count()

    def let_time_pass() -> None:
        try:
            for move in range(1, MOVES):
                clock.seconds += LIFE if not move % 50 else LIFE / 2 if not move % 10 else 0.3
                for scope in SCOPES:
                    credential.get_token(scope)
        finally:
            over.set()

    def again_and_again(ask: Callable[[str], object]) -> None:
        for scope in itertools.cycle(SCOPES):
            ask(scope)
            if over.is_set():
                return

    async def read_async(_: object) -> None:
        await asyncio.gather(*(reader.ask_async(beside, scope) for scope in SCOPES * 3))

    run_processes: list[Callable[[str], object]] = [
        *[partial(reader.ask, credential)] * 5,
        partial(reader.ask_after_clearing, credential),
        lambda scope: reader.ask_anew(credential, scope, f"claims-{next(names)}"),
        lambda scope: asyncio.run(read_async(scope)),
    ]
    run_concurrently(let_time_pass, *(partial(again_and_again, ask) for ask in run_processes))
    assert token_factory.given > MOVES // 10


def test_of_a_hundred_threads_that_miss_at_once_one_asks(
    clock: FakeClock, token_factory: CountingTokenFactory
) -> None:
    token_cache, rounds = TokenCache(clock, no_jitter), range(1, 6)
    entry, together = token_cache.entry(KEY), threading.Barrier(CROWD)
    asked: list[int] = []

    def miss() -> None:
        for number in rounds:
            if together.wait() == 0:
                asked.append(token_factory.given)
                clock.seconds += 2 * LIFE
            together.wait()
            assert token_cache.get(entry, token_factory.token).value == f" {number}"

    run_concurrently(*[miss] * CROWD)
    assert asked == [number - 1 for number in rounds]


class Stopped(BaseException):
    """What stops a thread that waits."""


class Victim:
    """A thread that asks again and again, and is stopped again and again."""

    def __init__(self, ask: Callable[[], object], over: threading.Event) -> None:
        self._ask = ask
        self._over = over
        self._ident = 0
        self._stops = NOT_YET
        self._is_past_stopping = False

    def run(self) -> None:
        with contextlib.suppress(Stopped):  # one that came late
            self._run()

    def _run(self) -> None:
        self._ident, stops = threading.get_ident(), 0
        while not self._over.is_set():
            try:
                while not self._over.is_set():
                    self._stops = stops
                    self._ask()
            except Stopped:
                stops += 1

    def stop(self, after: Callable[[], object]) -> None:
        """Stop it, do something else, and wait until it is stopped and asks again."""
        before = self._stops
        if before == NOT_YET or self._is_past_stopping:
            return
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(self._ident), ctypes.py_object(Stopped)
        )
        after()
        for _ in range(30):
            if self._stops != before:
                return
            threading.Event().wait(0.01)
        # What is raised in a finaliser gets lost. Another might come where nothing catches it.
        self._is_past_stopping = True


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_threads_that_are_stopped_harm_none_that_go_on(
    clock: FakeClock, token_factory: CountingTokenFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "POLL_SECONDS", 0.02)
    token_cache, over = TokenCache(clock, no_jitter), threading.Event()
    ask, names = (
        partial(token_cache.get, token_cache.entry(KEY), token_factory.token),
        itertools.count(),
    )
    # Each asks for one of its own: who waits is stopped, and the processor is left to others.
    victims = [Victim(lambda: ask(f"claims-{next(names)}"), over) for _ in range(4)]

    def expired() -> None:
        clock.seconds += LIFE
        ask()

    def stop_them() -> None:
        try:
            for victim in victims * 20:
                victim.stop(expired)
        finally:
            over.set()

    run_concurrently(stop_them, *(victim.run for victim in victims))
    assert ask()


def test_threads_come_and_go_while_others_count_them() -> None:
    over = threading.Event()

    def begin() -> None:
        try:
            for _ in range(200):
                start_thread(int)
        finally:
            over.set()

    def count() -> None:
        while not over.is_set():
            assert isinstance(internal_threads(), frozenset)

    others = internal_threads()
    run_concurrently(begin, *[count] * 3)
    join_all(10)
    assert internal_threads() <= others


class _Vm(BaseHTTPRequestHandler):
    """A service like a VM's, but for its tokens, which count requests."""

    def do_GET(self) -> None:
        server: Any = self.server
        server.requests.append(self.path)
        body = (
            f'{{"access_token": "token-{len(server.requests)}", "expires_on": "4102444800", '
            '"token_type": "Bearer", "resource": "https://vault.azure.net"}'
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


BEGINNERS = f"""
import sys, threading
for module in sys.argv[1:]: __import__(module)
sys.setswitchinterval(1e-6)
together, tokens, threads = threading.Barrier({CROWD}), set(), []

def begin():
    together.wait()
    import imds_identity
    credential = imds_identity.ManagedIdentityCredential()
    tokens.add(credential.get_token("https://vault.azure.net").token)
    threads.append(credential._client.token_cache)

crowd = [threading.Thread(target=begin) for _ in range({CROWD})]
for thread in crowd: thread.start()
for thread in crowd: thread.join()
print(len(threads), len(set(map(id, threads))), sorted(tokens))
"""


@pytest.mark.parametrize("imported", [[], ["imds_identity.credential"]])
def test_of_a_process_that_begins_with_a_hundred_threads_one_asks(imported: list[str]) -> None:
    """What a first token needs is imported by all of them at once, too."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Vm) as server:
        server.requests = []  # type: ignore[attr-defined]
        threading.Thread(target=partial(server.serve_forever, 0.01), daemon=True).start()
        try:
            where = f"http://127.0.0.1:{server.server_port}"
            done = subprocess.run(
                [sys.executable, "-c", BEGINNERS, *imported],
                env={**os.environ, "AZURE_POD_IDENTITY_AUTHORITY_HOST": where},
                capture_output=True, text=True, timeout=120, check=False,
            )  # fmt: skip
        finally:
            server.shutdown()
    assert done.stdout.strip() == f"{CROWD} 1 ['token-1']", done.stderr
    assert done.stderr == ""


def test_an_emulator_is_asked_and_changed_at_once(start_emulator: Callable[..., Emulator]) -> None:
    emulator, over = start_emulator(limits=False), threading.Event()
    where = f"{emulator.endpoint}/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://vault.azure.net"
    asking = urllib.request.Request(where, headers={"Metadata": "true"})

    def ask() -> bytes:
        with urllib.request.urlopen(asking, timeout=30) as answer:
            body: bytes = answer.read()
            return body

    def change() -> None:
        try:
            for _ in range(30):
                number = emulator.fault(delay=0.001)
                emulator.schedule_event()
                assert [each for each, _ in emulator.faults] == [number]
                assert all(request.status in (0, 200) for request in emulator.requests)
                emulator.revoke_tokens()
                assert len({token.value for token in emulator.issued_tokens}) <= 1
                emulator.reset()
                assert emulator.events == []
        finally:
            over.set()

    def ask_on() -> None:
        while not over.is_set():
            assert json.loads(ask())["token_type"] == "Bearer"

    run_concurrently(change, *[ask_on] * 4)
    emulator.reset()
    ask()
    assert len(emulator.token_requests) == 1


@pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED") or not sys._is_gil_enabled(),  # type: ignore[attr-defined]
    reason="no GIL that could be switched off",
)
def test_all_of_this_holds_where_an_extension_has_brought_back_the_gil() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "gil=0", "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
