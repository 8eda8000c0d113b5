"""Threads that come and go while others look who is there."""

from __future__ import annotations

import sys
import threading

from imds_identity._core import fork
from imds_identity._core.fork import whole


def test_any_number_of_threads_may_come_and_go_at_once() -> None:
    errors: list[BaseException] = []

    def come_and_go() -> None:
        try:
            for _ in range(500):
                with whole(), whole():
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
        work = whole()
        work.__enter__()  # and a signal handler raises before the statement is entered
        assert fork._is_inside(threading.get_ident())

    thrown_out()
    assert not fork._is_inside(threading.get_ident())
    assert not fork._inside


def test_a_fork_whose_preparation_was_cut_short_ends_without_a_word() -> None:
    fork._after_fork_in_parent()
    assert fork._entrance.acquire(blocking=False)
    fork._entrance.release()
