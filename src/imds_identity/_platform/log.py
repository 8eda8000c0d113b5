"""This package's log calls, which import `logging` only if necessary and are fork-safe."""

from __future__ import annotations

import sys

from .fork import uninterrupted
from .imports import run_imports
from .threads import run_in_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NAME = "imds_identity"
LOG_SECONDS = 1.0
"""Seconds to wait for a log call in another thread: its handler may wait for this thread."""


def is_logged(level: str = "DEBUG") -> bool:
    """Return whether messages of ``level`` are logged; False if `logging` is not imported.

    It reads the same attributes as `getLogger` and `isEnabledFor`. Those acquire the global lock of
    `logging`, and a signal handler that raises inside them leaves it locked for every thread.
    """
    logging: Any = sys.modules.get("logging")
    # While another thread imports it, there is no manager yet.
    manager = getattr(getattr(logging, "Logger", None), "manager", None)
    if manager is None:
        return False
    logger = manager.loggerDict.get(NAME)
    if not isinstance(logger, logging.Logger):  # getLogger(NAME) was not called yet
        logger = manager.root
    wanted: int = getattr(logging, level)
    return not logger.disabled and manager.disable < wanted >= logger.getEffectiveLevel()


def log(level: str, message: str, *args: object, exc_info: bool = False) -> None:
    """Log ``message`` in this thread; in the main thread use `log_in_thread`."""
    run_imports("logging", _import_logging)
    import logging

    logger, number = logging.getLogger(NAME), getattr(logging, level)
    if logger.isEnabledFor(number):
        # The record names the caller of this function.
        uninterrupted(logger.log, number, message, *args, exc_info=exc_info, stacklevel=3)


def _import_logging() -> None:
    import logging

    del logging


def log_in_thread(level: str, message: str, *args: object) -> None:
    """Log ``message`` in another thread and wait for it, for `LOG_SECONDS` at most.

    A handler may be slow or need the very token that this thread is fetching, and a signal handler
    that raises must not interrupt it.
    """
    run_in_thread(lambda: log(level, message, *args), LOG_SECONDS)
