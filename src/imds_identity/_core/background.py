"""Threads that work for those who ask and are left behind when the interpreter ends."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def start_thread(run: Callable[[], object]) -> None:
    """Run ``run`` in a thread of its own.

    Raises:
        RuntimeError: if there can be no more threads, or the interpreter is going down. Until
            Python 3.12 a thread that is started then never runs, and who starts it waits for ever.
    """
    if sys.is_finalizing():
        raise RuntimeError("the interpreter is going down")
    threading.Thread(target=run, name="imds-identity", daemon=True).start()
