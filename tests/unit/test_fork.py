"""Threads that come and go while others look who is there."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

import pytest

from imds_identity._platform import fork
from imds_identity._platform.fork import fork_safe, load
from imds_identity._platform.threads import run_in_thread, start_thread

if TYPE_CHECKING:
    from pathlib import Path


def test_any_number_of_threads_may_come_and_go_at_once() -> None:
    errors: list[BaseException] = []

    def come_and_go() -> None:
        try:
            for _ in range(500):
                with fork_safe(), fork_safe():
                    sum(range(50))
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            errors.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=come_and_go) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert errors == []
    assert fork._threads_inside() == set()


def test_who_is_thrown_out_is_forgotten_with_its_frame() -> None:
    def thrown_out() -> None:
        work = fork_safe()
        work.__enter__()  # and a signal handler raises before the statement is entered
        assert fork._is_inside(threading.get_ident())

    thrown_out()
    assert not fork._is_inside(threading.get_ident())
    assert not fork._inside


def test_who_is_thrown_out_before_he_is_noted_is_forgotten_without_a_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stopped(thread: int) -> bool:
        raise KeyboardInterrupt

    def thrown_out() -> None:
        with pytest.raises(KeyboardInterrupt):
            fork_safe().__enter__()

    unraisable: list[object] = []
    with monkeypatch.context() as patched:
        patched.setattr(sys, "unraisablehook", unraisable.append)
        patched.setattr(fork, "_is_inside", stopped)
        thrown_out()
    assert unraisable == []


def test_a_fork_whose_preparation_was_cut_short_ends_without_a_word() -> None:
    fork._after_fork_in_parent()
    assert fork._entrance.acquire(blocking=False)
    fork._entrance.release()


def test_the_main_thread_imports_nothing_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal handler that raises in the middle of an import would leave it torn."""
    (tmp_path / "loaded_beside.py").write_text("import threading; ran = threading.get_ident()")
    monkeypatch.syspath_prepend(tmp_path)
    assert threading.current_thread() is threading.main_thread()
    assert load("loaded_beside").ran != threading.get_ident()
    assert load("loaded_beside") is sys.modules.pop("loaded_beside")


def test_what_hangs_is_waited_for_for_a_while() -> None:
    go = threading.Event()
    order: list[object] = []
    run_in_thread(lambda: order.append(go.wait(10)), 0.01)
    assert order == []
    go.set()
    run_in_thread(lambda: order.append(1 / 0), 10)  # and its errors are nobody's
    run_in_thread(lambda: order.append("done"), 10)
    assert "done" in order


def test_while_the_interpreter_goes_down_there_are_no_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "is_finalizing", lambda: True)
    with pytest.raises(RuntimeError, match="going down"):
        start_thread(print)
    ran: list[int] = []
    run_in_thread(lambda: ran.append(threading.get_ident()), 10)
    assert ran == [threading.get_ident()]
