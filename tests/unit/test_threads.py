"""Threads of this package: their stacks, their names in `threading`, and their end."""

from __future__ import annotations

import _thread
import logging
import os
import subprocess
import sys
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from imds_identity._platform import threads
from imds_identity._platform.imports import run_imports
from imds_identity._platform.threads import (
    MIN_STACK_SIZE,
    _wait_for_ending_threads,
    internal_threads,
    join_all,
    run_in_thread,
    start_thread,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from imds_identity.emulator import Emulator

SCOPE = "https://vault.azure.net/.default"


FORK = f"""
import os, time
counts = []
# Hooks run in reverse order: this one after the package's.
os.register_at_fork(before=lambda: counts.append(len(os.listdir("/proc/self/task"))))
from imds_identity import ManagedIdentityCredential
ManagedIdentityCredential(on_event=lambda event: time.sleep(0.005)).get_token("{SCOPE}")
if not os.fork():
    os._exit(0)
os.wait()
print(*counts)
"""


@pytest.fixture
def restored_stack_size() -> Iterator[None]:
    before = threading.stack_size()
    yield
    threading.stack_size(before)


@pytest.mark.usefixtures("restored_stack_size")
@pytest.mark.parametrize("size", [0, 64 * 1024, MIN_STACK_SIZE, 4 * MIN_STACK_SIZE])
def test_stack_size_of_the_program_s_threads_does_not_change(size: int) -> None:
    threading.stack_size(size)
    run_in_thread(int, 10)
    assert threading.stack_size() == size


def test_token_is_fetched_in_a_program_with_the_smallest_stacks(imds_emulator: Emulator) -> None:
    """With a stack of 32 KiB, a fetch through azure-core's pipeline would crash."""
    script = f"""
import threading
from imds_identity import ManagedIdentityCredential
try:
    threading.stack_size(32 * 1024)
except ValueError:  # the smallest size that the system or Python 3.14 allows
    threading.stack_size(64 * 1024)
assert ManagedIdentityCredential(user_agent="x").get_token("{SCOPE}").token
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        env={**os.environ, **imds_emulator.environment()},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_threads_leave_no_object_in_the_list_of_threads(caplog: pytest.LogCaptureFixture) -> None:
    """A log call creates one, called Dummy-1, which would remain until Python 3.12."""
    before = threading.enumerate()

    def log() -> None:
        logging.getLogger("imds_identity").warning("from a thread")

    with caplog.at_level(logging.DEBUG):
        run_in_thread(log, 10)
        join_all(10)
    assert caplog.messages == ["from a thread"]
    assert threading.enumerate() == before


@pytest.mark.skipif(sys.platform != "linux", reason="needs fork and /proc")
def test_process_has_one_thread_when_it_forks_after_a_fetch(imds_emulator: Emulator) -> None:
    """Python 3.12 and newer warn if it has more, and a hook may take a moment."""
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", FORK],
        env={**os.environ, **imds_emulator.environment()},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "1", "")


class SlowToEnd:
    """A value of a thread that takes a moment to end."""

    def __del__(self) -> None:
        time.sleep(0.05)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_fork_waits_for_a_thread_that_is_about_to_end() -> None:
    numbers: list[int] = []
    local, started = threading.local(), threading.Event()

    def work() -> None:
        local.value = SlowToEnd()
        numbers.append(threading.get_native_id())
        started.set()

    start_thread(work)
    assert started.wait(10)
    join_all(10)
    _wait_for_ending_threads(10)
    assert not os.path.exists(f"/proc/self/task/{numbers[0]}")


def test_end_of_a_subinterpreter_waits_for_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    states: set[Callable[[], object]] = set()

    def state() -> bool:
        states.add(lambda: None)  # of a thread that starts in the meantime
        return len(waits) < 20

    states.add(state)
    monkeypatch.setattr(threading, "Event", lambda: SimpleNamespace(wait=waits.append))
    monkeypatch.setattr(threads, "_states", states)
    monkeypatch.setattr(threads, "_is_subinterpreter", lambda: True)
    monkeypatch.setattr(threads, "_is_ending", False)
    monkeypatch.setattr(threads, "_sockets", {})
    threads._end_in_subinterpreter()
    assert len(waits) == 21  # also the last thread has some steps left
    with pytest.raises(RuntimeError, match="shutting down"):
        start_thread(int)


def test_main_interpreter_ends_while_a_thread_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    states: set[Callable[[], object]] = set()
    states.add(lambda: states.add(lambda: None))
    monkeypatch.setattr(threads, "_states", states)
    threads._end_in_subinterpreter()


def test_join_all_waits_until_threads_have_ended_or_the_time_is_over() -> None:
    join_all(10)
    started, release = threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        release.wait(60)

    start_thread(work)
    assert started.wait(10)
    join_all(0.02)
    assert internal_threads()
    timer = threading.Timer(0.1, release.set)
    timer.start()
    join_all(10)
    assert not internal_threads()
    timer.join()


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't start new thread")], ids=repr)
def test_program_without_memory_for_a_thread_continues(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(_thread, "start_new_thread", fail)
    threads = list[threading.Thread]()
    run_in_thread(lambda: threads.append(threading.current_thread()), 10)
    assert threads == [threading.current_thread()]
    with pytest.raises(RuntimeError, match="can't start new thread"):
        start_thread(int)


def test_imports_for_the_main_thread_run_in_another_one_first() -> None:
    """A signal handler that raises during an import would leave a module half imported."""
    key, ran_in = object(), list[threading.Thread]()
    for _ in range(2):
        run_imports(key, lambda: ran_in.append(threading.current_thread()))
    assert [thread is threading.main_thread() for thread in ran_in] == [False, True]
    ran_in.clear()
    arguments = (object(), lambda: ran_in.append(threading.current_thread()))
    thread = threading.Thread(target=run_imports, args=arguments)
    thread.start()
    thread.join()
    assert ran_in == [thread]
