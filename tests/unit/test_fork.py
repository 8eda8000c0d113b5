"""The fork hooks, and the threads of this package."""

from __future__ import annotations

import importlib
import os
import socket
import sys
import threading
import time
from contextlib import suppress
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from imds_identity._platform import fork, threads
from imds_identity._platform.fork import detect_fork, uninterrupted
from imds_identity._platform.locks import ForkAwareLock
from imds_identity._platform.threads import (
    close_at_end,
    internal_threads,
    run_in_thread,
    start_thread,
)
from support import (
    count_traced_lines,
    in_another_thread,
    run_after_fork_in_c,
    run_concurrently,
)

if TYPE_CHECKING:
    from collections.abc import Callable


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX processes")


def test_any_number_of_threads_may_enter_and_leave_at_once() -> None:
    errors: list[BaseException] = []

    def enter_and_leave() -> None:
        try:
            for _ in range(500):
                uninterrupted(sum, range(50))
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            errors.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=enter_and_leave) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert errors == []
    assert fork._uninterrupted == set()


def test_threads_do_not_exclude_each_other() -> None:
    """A log handler may wait for a thread that logs, too."""
    inside = threading.Barrier(2)
    threads = [threading.Thread(target=uninterrupted, args=(inside.wait, 10)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not inside.broken


def test_calls_can_be_nested() -> None:
    """The inner call neither waits for a fork nor ends the protection of the outer one."""
    seen: list[bool] = []

    def outer() -> None:
        uninterrupted(int)
        seen.append(threading.get_ident() in fork._uninterrupted)

    uninterrupted(outer)
    assert seen == [True]
    assert fork._uninterrupted == set()


def test_an_exception_at_any_line_leaves_nothing_to_wait_for() -> None:
    class Stopped(BaseException):
        pass

    def is_in_fork(file: str, line: int) -> bool:
        return file.endswith("fork.py")

    uninterrupted(int)
    lines = count_traced_lines(lambda: uninterrupted(int), is_in_fork, -1, Stopped)
    assert lines > 3
    for line in range(1, lines):  # the last one is in the `finally` clause
        with suppress(Stopped):
            count_traced_lines(lambda: uninterrupted(int), is_in_fork, line, Stopped)
        assert fork._uninterrupted == set(), line


def test_a_reset_that_fails_does_not_prevent_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[int] = []
    monkeypatch.setattr(fork, "_resets", [lambda: 1 / 0, lambda: called.append(1)])
    fork._after_fork_in_child()
    assert called == [1]


def test_an_exception_leaves_nothing_to_wait_for() -> None:
    with pytest.raises(ZeroDivisionError):
        uninterrupted(lambda: 1 / 0)
    assert fork._uninterrupted == set()


def test_a_fork_whose_preparation_was_interrupted_ends_without_an_error() -> None:
    fork._after_fork_in_parent()
    assert fork._gate.acquire(blocking=False)
    fork._gate.release()


@needs_fork
def test_a_fork_waits_for_other_threads_for_a_limited_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fork, "FORK_SECONDS", 0.02)
    go, inside = threading.Event(), threading.Event()

    def hang() -> None:
        inside.set()
        go.wait(10)

    thread = threading.Thread(target=uninterrupted, args=(hang,))
    thread.start()
    inside.wait()
    child = os.fork()
    if not child:
        os._exit(0 if fork._uninterrupted == set() else 1)
    go.set()
    thread.join()
    assert os.waitpid(child, 0)[1] == 0
    assert fork._uninterrupted == set()


def test_locks_of_modules_that_take_them_before_a_fork_exist() -> None:
    for name, lock in fork._LOCKING_MODULES.items():
        assert hasattr(getattr(importlib.import_module(name), lock), "acquire")


@pytest.mark.parametrize("is_importing", [False, True])
def test_fork_takes_the_lock_of_a_module_that_another_thread_imports_meanwhile(
    monkeypatch: pytest.MonkeyPatch, is_importing: bool
) -> None:
    module: Any = ModuleType("a_locking_module")
    module.__spec__ = SimpleNamespace(_initializing=is_importing)
    if not is_importing:
        module.lock = threading.Lock()

    def wait() -> None:
        monkeypatch.setitem(sys.modules, module.__name__, module)
        fork._uninterrupted.discard(-1)

    monkeypatch.setattr(fork, "_LOCKING_MODULES", {module.__name__: "lock"})
    monkeypatch.setattr(fork, "_wait_without_logging_lock", wait)
    fork._uninterrupted.add(-1)
    fork._before_fork()
    fork._after_fork_in_parent()
    assert is_importing or module.lock.locked()


def test_a_call_that_hangs_is_waited_for_for_a_limited_time() -> None:
    go = threading.Event()
    order: list[object] = []
    run_in_thread(lambda: order.append(go.wait(10)), 0.01)
    assert order == []
    go.set()
    run_in_thread(lambda: order.append(1 / 0), 10)  # its exception is dropped
    run_in_thread(lambda: order.append("done"), 10)
    assert "done" in order


def test_no_thread_is_started_while_the_interpreter_shuts_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "is_finalizing", lambda: True)
    with pytest.raises(RuntimeError, match="shutting down"):
        start_thread(print)
    ran: list[int] = []
    run_in_thread(lambda: ran.append(threading.get_ident()), 10)
    assert ran == [threading.get_ident()]


def _fork_and_wait() -> None:
    child = os.fork()
    if not child:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


@needs_fork
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize(
    "work", [lambda: uninterrupted(int), lambda: run_in_thread(int, 10), _fork_and_wait]
)
def test_a_child_forked_in_c_does_not_wait_for_a_lock_of_its_parent(
    work: Callable[[], object],
) -> None:
    def hold(wait: Callable[[], object]) -> None:
        with fork._gate:
            wait()

    with in_another_thread(hold):
        run_after_fork_in_c(work)


@needs_fork
def test_a_child_forked_in_c_resets_its_state_once(monkeypatch: pytest.MonkeyPatch) -> None:
    resets: list[int] = []
    monkeypatch.setattr(fork, "_resets", [lambda: resets.append(os.getpid())])

    def detect_in_threads() -> None:
        for _ in range(2):
            run_in_thread(lambda: uninterrupted(int), 10)
        detect_fork()
        assert resets == [os.getpid()]

    run_after_fork_in_c(detect_in_threads)


@needs_fork
def test_threads_of_the_parent_are_not_internal_threads_of_a_child_forked_in_c() -> None:
    with in_another_thread(lambda wait: run_in_thread(wait, 60)):
        assert internal_threads()

        def look() -> None:
            run_in_thread(int, 10)
            assert not internal_threads()

        run_after_fork_in_c(look)


@pytest.mark.parametrize("uses_uwsgi", [False, True])
def test_threads_end_before_uwsgi_can_fork(
    uses_uwsgi: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(threads, "_wait_for_ending_threads", lambda seconds: calls.append("waits"))
    if uses_uwsgi:
        monkeypatch.setitem(sys.modules, "uwsgi", ModuleType("uwsgi"))
    run_in_thread(lambda: calls.append("runs"), 10)
    assert calls == ["runs", "waits"][: 1 + uses_uwsgi]


@needs_fork
@pytest.mark.parametrize("is_replaced", [False, True])
def test_child_does_not_receive_the_response_to_its_parent(is_replaced: bool) -> None:
    """gevent and eventlet copy the green threads of a process that forks."""
    client, server = socket.socketpair()
    with client, server:
        close_at_end(client)
        server.sendall(b"for the parent")

        def receive() -> None:
            if is_replaced:  # the child has closed all descriptors, and uses the number again
                reading, writing = os.pipe()
                os.write(writing, b"for the child")
                os.dup2(reading, client.fileno())
            detect_fork()
            received = os.read(client.fileno(), 100)
            assert received == (b"for the child" if is_replaced else b"")

        run_after_fork_in_c(receive)
        assert client.recv(100) == b"for the parent"


@needs_fork
def test_the_end_of_a_child_forked_in_c_waits_for_no_thread_of_its_parent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threads, "_is_subinterpreter", lambda: True)
    with in_another_thread(lambda wait: run_in_thread(wait, 60)):
        run_after_fork_in_c(threads._end_in_subinterpreter)


@needs_fork
def test_threads_of_a_child_get_the_same_lock() -> None:
    lock = ForkAwareLock()

    def look() -> None:
        inside: list[int] = []

        def work() -> None:
            inside.append(1)
            assert len(inside) == 1
            time.sleep(0)
            inside.clear()

        run_concurrently(*[lambda: [lock.run(work) for _ in range(50)]] * 4)

    with in_another_thread(lock.run):
        run_after_fork_in_c(look)
