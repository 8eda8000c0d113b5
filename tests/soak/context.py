"""The objects that all parts of a worker share."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import random
    from collections import Counter

    from .call_checker import CallChecker
    from .credentials import CredentialPool
    from .event_log import EventLog
    from .forked_children import ForkedChildren
    from .shared_state import SharedState
    from .watch import Watch


class Context(NamedTuple):
    """The context of one worker process."""

    folder: str
    shared_state: SharedState
    event_log: EventLog
    counts: Counter[str]
    watch: Watch
    checker: CallChecker
    credentials: CredentialPool
    children: ForkedChildren
    rng: random.Random

    def call_any(self, *, main: bool = False) -> None:
        """Call a random sync credential, and again if the resource responds with a challenge."""
        pooled = self.credentials.any_sync()
        spec, info = pooled.call_spec(self.rng), self.rng.random() < 0.5
        issued = self.checker.call_sync(pooled.credential, spec, info=info, main=main)
        challenge = self.checker.challenge(spec, issued)
        if challenge is not None:
            self.checker.call_sync(pooled.credential, challenge, info=info, main=main)


class TokenRequestingHandler(logging.Handler):
    """A log handler that requests tokens, as handlers do that send records to Azure.

    Args:
        context: of the worker.
        locked: whether to hold the handler's lock meanwhile, as ordinary handlers do.
    """

    def __init__(self, context: Context, *, locked: bool) -> None:
        super().__init__()
        self._context = context
        self._locked = locked
        self._local = threading.local()

    def handle(self, record: logging.LogRecord) -> bool:
        if self._locked:
            return bool(super().handle(record))
        self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        self._context.counts["log records"] += 1
        self._context.checker.check_message(record.getMessage())
        if getattr(self._local, "inside", False):
            return
        try:
            self._local.inside = True
            self._context.counts["faults: token requests from a log handler"] += 1
            main = threading.current_thread() is threading.main_thread()
            self._context.call_any(main=main)
        finally:
            self._local.inside = False
