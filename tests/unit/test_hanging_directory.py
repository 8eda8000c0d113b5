"""A shared directory that hangs or is slow (NFS, FUSE) delays one fetch, and no other call."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from imds_identity._core.identity import parse_identity
from imds_identity._platform import threads
from imds_identity._platform.threads import join_all
from imds_identity._shared_cache import directory as directory_module
from imds_identity._shared_cache import flock, watchdog
from imds_identity._shared_cache import lease as lease_module
from imds_identity._shared_cache.directory import Directory
from imds_identity._shared_cache.mounts import Mounts
from imds_identity._shared_cache.open_directory import NoUsableDirectory, OpenDirectory
from imds_identity._shared_cache.record import Record
from imds_identity._shared_cache.store import SharedCache
from imds_identity._shared_cache.watchdog import (
    SKIP_SECONDS,
    SLOW_SECONDS,
    Watchdog,
)
from imds_identity._sources.azure_vm import ImdsSource
from imds_identity._token_cache.cache import TokenCache
from imds_identity._token_cache.client import TokenClient
from support import (
    NAMESPACE,
    BackgroundQueue,
    FakeClock,
    ResponseFactory,
    new_token,
    no_jitter,
    run_after_fork_in_c,
    shared_cache_in,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from imds_identity._http.messages import Request, Response
    from imds_identity._http.runner import Sender
    from imds_identity._platform.clock import Clock
    from imds_identity._token_cache.entry import CacheEntry

SECONDS = 10.0
SHORT = 0.3  # in real time, while the directory hangs
RESOURCE = "https://vault.azure.net"


class RemoteFileSystem:
    """The file operations in a directory that may hang.

    Attributes:
        operations: how many there were.
        threads: the threads that waited for one.
        seconds: how long each one takes, by the fake clock.
        responds: set while operations return.
    """

    def __init__(self, path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        self.operations = 0
        self.threads: set[int] = set()
        self.seconds = 0.0
        self.responds = threading.Event()
        self.responds.set()
        self._clock = clock
        patched: list[tuple[Any, str]] = [
            (Directory, "_current"), (OpenDirectory, "stat"), (flock, "try_lock"),
            (flock, "release"), (lease_module, "set_times"),
        ]  # fmt: skip
        for owner, name in patched:
            monkeypatch.setattr(owner, name, self._slow(getattr(owner, name)))
        # As on NFS: the file system is not one of the local ones.
        no_mounts = Mounts(frozenset(), frozenset())
        monkeypatch.setattr(directory_module, "current_mounts", lambda: no_mounts)
        self.watchdog = Watchdog(str(path), clock, SECONDS)
        self.directory = Directory(lambda: [str(path)], watchdog=self.watchdog)

    def _slow(self, operation: Callable[..., Any]) -> Callable[..., Any]:
        def operate(*args: Any, **keywords: Any) -> Any:
            self.operations += 1
            self.threads.add(threading.get_ident())
            self._clock.seconds += self.seconds
            assert self.responds.wait(30)
            return operation(*args, **keywords)

        return operate

    def hang(self) -> None:
        """Let no operation return."""
        self.watchdog._seconds = SHORT
        self.responds.clear()

    def wait_until_idle(self) -> None:
        """Let operations return, and wait until none hangs any more."""
        self.watchdog._seconds = SECONDS
        self.responds.set()
        for _ in range(1000):
            if not self.watchdog._hanging:
                return
            threading.Event().wait(0.01)
        raise AssertionError("an operation still hangs")


@pytest.fixture
def remote(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RemoteFileSystem]:
    remote = RemoteFileSystem(tmp_path / "cache", clock, monkeypatch)
    yield remote
    remote.responds.set()
    join_all(10)  # an operation that continues would count as one of the next test


@pytest.fixture
def client(remote: RemoteFileSystem, token_cache: TokenCache, clock: FakeClock) -> TokenClient:
    return client_of(remote, token_cache, clock)


def client_of(remote: RemoteFileSystem, token_cache: TokenCache, clock: FakeClock) -> TokenClient:
    source = ImdsSource("http://169.254.169.254/metadata/identity/oauth2/token", "A_VARIABLE")
    shared_cache = SharedCache(remote.directory, clock, NAMESPACE)
    return TokenClient(source, parse_identity(), token_cache, shared_cache)


@pytest.fixture
def get(client: TokenClient, clock: FakeClock) -> Callable[..., str]:
    """Requests a token."""
    responses, count = ResponseFactory(clock), [0]

    @contextmanager
    def open_sender(_: Clock) -> Iterator[Sender]:
        def send(_request: Request) -> Response:
            count[0] += 1
            return responses.token(f"token-{count[0]}")

        yield send

    def get(resource: str = RESOURCE, claims: str | None = None, by: Any = client) -> str:
        token: str = by.token(by.entry(resource), claims, open_sender).value
        return token

    return get


def test_directory_that_responds_is_used(
    remote: RemoteFileSystem, get: Callable[..., str], clock: FakeClock
) -> None:
    assert get() == "token-1"
    local = shared_cache_in(remote.path, clock)
    assert [record.token.value for record in local.records() if record.token] == ["token-1"]
    other = client_of(remote, TokenCache(clock, no_jitter, BackgroundQueue()), clock)
    assert get(by=other) == "token-1"


def test_callers_do_not_access_the_directory_themselves(
    remote: RemoteFileSystem, get: Callable[..., str]
) -> None:
    for claims in (None, None, "c", "c"):
        get(claims=claims)
    assert remote.operations
    assert threading.get_ident() not in remote.threads


def test_directory_is_not_used_if_no_thread_can_be_started(
    remote: RemoteFileSystem, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads, "start_thread", fail)
    calls = list[str]()
    guard = Watchdog(str(remote.path), clock)
    with pytest.raises(NoUsableDirectory, match="needs a thread"):
        guard.run(calls.append, "x", in_thread=True)
    assert not calls
    monkeypatch.undo()
    guard.run(calls.append, "x", in_thread=True)  # it is not skipped afterwards
    assert calls


def test_hanging_directory_delays_one_operation_and_causes_one_warning(
    remote: RemoteFileSystem, get: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    remote.hang()
    assert [get(f"https://{number}.example") for number in range(20)][-1] == "token-20"
    assert remote.operations == 1
    [record] = caplog.records
    assert f"{remote.path} did not respond within" in record.message


def test_directory_is_skipped_while_an_operation_hangs_and_a_while_longer(
    remote: RemoteFileSystem, get: Callable[..., str], clock: FakeClock
) -> None:
    remote.hang()
    get()
    clock.seconds += 2 * SKIP_SECONDS
    get("https://second.example")
    assert remote.operations == 1  # it still hangs
    remote.wait_until_idle()
    get("https://third.example")
    assert remote.operations > 1


def test_directory_is_skipped_after_a_slow_operation(
    remote: RemoteFileSystem, get: Callable[..., str], clock: FakeClock
) -> None:
    remote.seconds = 2 * SECONDS
    started = clock.now()
    get()
    operations = remote.operations
    assert operations <= 2
    assert clock.now() - started < 3 * remote.seconds
    clock.seconds += SKIP_SECONDS / 2
    get("https://second.example")
    assert remote.operations == operations
    remote.seconds = 0.0
    clock.seconds += SKIP_SECONDS / 2
    get("https://third.example")
    assert len(shared_cache_in(remote.path, clock).records()) == 1


def test_valid_token_is_returned_without_access_to_the_directory(
    remote: RemoteFileSystem,
    get: Callable[..., str],
    clock: FakeClock,
    background: BackgroundQueue,
) -> None:
    get()
    operations = remote.operations
    clock.seconds += 10
    assert get() == "token-1"
    assert remote.operations == operations
    remote.hang()
    background.run()  # the check that the call has started
    clock.seconds += 10
    assert get() == "token-1"
    assert threading.get_ident() not in remote.threads


def test_caller_without_a_token_leaves_the_directory_to_the_fetch(
    remote: RemoteFileSystem, client: TokenClient, background: BackgroundQueue
) -> None:
    """Otherwise 300 callers at once would have 300 threads that hang; the fetches have a few."""
    entry = client.entry(RESOURCE)
    _, fetch, shared_tokens = client._fetch(entry, None, None, may_wait=True)
    assert fetch.looks_first
    assert shared_tokens
    for _ in range(2):
        shared_tokens.look(entry)
    assert remote.operations == 0
    assert len(background.waiting) == 1


def test_newer_token_of_another_process_is_adopted_in_the_background(
    remote: RemoteFileSystem,
    client: TokenClient,
    get: Callable[..., str],
    clock: FakeClock,
    background: BackgroundQueue,
) -> None:
    get()
    clock.seconds += 10
    entry = client.entry(RESOURCE)
    shared_cache_in(remote.path, clock).write(Record(entry.key, new_token(clock, "newer")))
    assert get() == get() == "token-1"
    assert len(background.waiting) == 1  # one check for both calls
    background.run()
    assert get() == "newer"


def test_lease_that_is_acquired_too_late_is_released(
    remote: RemoteFileSystem, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared_cache = SharedCache(remote.directory, clock, NAMESPACE)
    with shared_cache.leased("x") as lease:
        assert lease
    remote.hang()
    with shared_cache.leased("x") as lease:
        assert lease is None
    remote.wait_until_idle()
    local = shared_cache_in(remote.path, clock).lease_attempt("x")
    assert local.try_acquire()
    local.close()


def test_held_lease_is_released_although_the_directory_is_skipped(
    remote: RemoteFileSystem, clock: FakeClock
) -> None:
    shared_cache = SharedCache(remote.directory, clock, NAMESPACE)
    with shared_cache.leased("x") as lease:
        assert lease
        remote.seconds = 2 * SECONDS
        lease.extend(5)
        remote.seconds = 0.0
    local = shared_cache_in(remote.path, clock).lease_attempt("x")
    for _ in range(1000):
        if local.try_acquire():
            break
        threading.Event().wait(0.01)
    else:
        raise AssertionError("the lease was not released")
    local.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_forked_child_does_not_wait_for_an_operation_of_its_parent(
    remote: RemoteFileSystem, get: Callable[..., str], clock: FakeClock
) -> None:
    remote.hang()
    get()
    assert remote.watchdog._hanging
    child = os.fork()
    if child == 0:
        clock.seconds += SKIP_SECONDS
        remote.responds = threading.Event()
        remote.responds.set()
        os._exit(not remote.directory.usable())
    assert os.waitpid(child, 0)[1] == 0


def test_operation_that_fails_at_the_end_of_the_wait_does_not_count_as_hanging(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting: list[Callable[[], object]] = []
    monkeypatch.setattr(watchdog, "run_in_thread", lambda run, *_: waiting.append(run))

    class Hanging(set[object]):
        def add(self, operation: object) -> None:
            waiting.pop()()  # the operation ends between two steps of the caller
            super().add(operation)

    limited = Watchdog("/somewhere", clock)
    limited._hanging = Hanging()
    with pytest.raises(FileNotFoundError):
        limited.run(os.stat, "/nowhere", in_thread=True)
    clock.seconds += SKIP_SECONDS
    assert limited.run(int, "7", in_thread=False) == 7


def test_lease_is_released_without_a_wait_while_an_operation_hangs(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(watchdog, "run_in_thread", lambda _, seconds, *_args: waits.append(seconds))
    limited = Watchdog("/somewhere", clock)
    limited.finish(int)
    with pytest.raises(NoUsableDirectory):
        limited.run(int, "7", in_thread=True)
    limited.finish(int)
    clock.seconds += SKIP_SECONDS
    limited.finish(int)
    assert waits == [SLOW_SECONDS, SLOW_SECONDS, 0.0, 0.0]
    limited.reset()
    limited.finish(int)
    assert waits[4:] == [SLOW_SECONDS]


def test_errors_of_operations_are_raised_in_the_calling_thread(remote: RemoteFileSystem) -> None:
    with pytest.raises(FileNotFoundError):
        remote.directory.read("missing", 10)
    assert remote.directory.names() == []


class TestEventLoop:
    """The thread of an event loop does not access files, not even in memory."""

    @pytest.mark.parametrize("may_hang", [True, False])
    def test_loop_thread_does_not_access_the_directory(
        self, remote: RemoteFileSystem, clock: FakeClock, may_hang: bool
    ) -> None:
        if not may_hang:
            remote.directory = Directory.at(str(remote.path))
        responses, count = ResponseFactory(clock), [0]
        client = client_of(remote, TokenCache(clock, no_jitter), clock)

        @contextmanager
        def open_sender(_: Clock) -> Iterator[Sender]:
            def send(_request: Request) -> Response:
                count[0] += 1
                return responses.token(f"token-{count[0]}")

            yield send

        async def get(claims: str | None = None) -> str:
            flights = client.flights(client.entry(RESOURCE), claims, open_sender)
            try:
                while True:
                    await asyncio.to_thread(next(flights).wait, 1.0)
            except StopIteration as done:
                token: str = done.value.value
                return token

        async def request() -> int:
            assert await get() == "token-1"
            clock.seconds += 10
            assert await get() == "token-1"
            assert await get("c") == "token-2"
            clock.seconds += 100_000
            assert await get() == "token-3"
            return threading.get_ident()

        loop_thread = asyncio.run(request())
        assert remote.threads
        assert loop_thread not in remote.threads

    def test_shared_token_is_used_without_waiting_for_a_lease(
        self, remote: RemoteFileSystem, clock: FakeClock
    ) -> None:
        """Another process may be refreshing it, or may have been stopped."""
        client = client_of(remote, TokenCache(clock, no_jitter), clock)
        entry: CacheEntry = client.entry(RESOURCE)
        local = shared_cache_in(remote.path, clock)
        local.write(Record(entry.key, new_token(clock, "shared")))
        clock.seconds += 50_000  # due, and not expired
        with local.leased(local.name_of(entry.key)):
            flights = client.flights(entry, None, None)
            started = clock.now()
            next(flights).wait(10)
            with pytest.raises(StopIteration) as done:
                next(flights)
        assert done.value.value.value == "shared"
        assert clock.now() == started


FUSE = """
import ctypes, os, sys, time
path = sys.argv[1]
device = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
libc = ctypes.CDLL(None, use_errno=True)
if libc.mount(b"test", path.encode(), b"fuse", 0, options.encode()):
    sys.exit(f"skip: {os.strerror(ctypes.get_errno())}")
os.environ.update(IMDS_IDENTITY_CACHE=path + "/cache")
from imds_identity._shared_cache import watchdog
watchdog.SLOW_SECONDS = 0.3
watchdog.Watchdog.__init__.__defaults__ = (0.3,)
from imds_identity import ManagedIdentityCredential
credential = ManagedIdentityCredential()
scopes = [f"https://{name}.example/.default" for name in "abcd"]
started = time.monotonic()
tokens = {credential.get_token(scope).token for scope in scopes}
print(len(tokens), time.monotonic() - started < 3, flush=True)
os._exit(0)  # a thread waits for the file system, which this process does not serve
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs FUSE")
def test_tokens_are_fetched_although_a_file_system_never_responds(
    emulator_factory: Any, tmp_path: Path
) -> None:
    (tmp_path / "mounted").mkdir()
    emulator = emulator_factory("vm", key_vault=False, resources=["https://*.example"])
    command = ["unshare", "-rm", sys.executable, "-c", FUSE, str(tmp_path / "mounted")]
    done = subprocess.run(
        command, env={**os.environ, **emulator.environment()},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    if "skip" in done.stderr or "unshare" in done.stderr or "/dev/fuse" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.stdout == "4 True\n", done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX processes")
def test_child_forked_in_c_does_not_skip_a_directory_because_of_a_thread_of_its_parent(
    clock: FakeClock,
) -> None:
    watchdog = Watchdog("/a-directory", clock)
    watchdog._hanging.add(object())
    run_after_fork_in_c(lambda: watchdog.run(int, in_thread=False))


def test_operation_that_ends_at_the_moment_of_its_timeout_does_not_count_as_hanging(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hanging(set[Any]):
        """Runs an operation, as its thread does, just before it is added."""

        def add(self, operation: Any) -> None:
            operation()
            super().add(operation)

    guard = Watchdog("/a-path", clock)
    guard._hanging = Hanging()
    monkeypatch.setattr(watchdog, "run_in_thread", lambda *_: None)
    assert guard.run(lambda: "in time", in_thread=True) == "in time"
    clock.seconds += SKIP_SECONDS
    assert guard.run(lambda: "later", in_thread=False) == "later"
