"""What the actors of a worker share."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import random
    from collections import Counter

    from .calls import Calls
    from .children import Children
    from .credentials import CredentialPool
    from .event_log import EventLog
    from .shared_state import SharedState
    from .watch import Watch


class Context(NamedTuple):
    """One worker process."""

    folder: str
    shared_state: SharedState
    event_log: EventLog
    counts: Counter[str]
    watch: Watch
    calls: Calls
    credentials: CredentialPool
    children: Children
    dice: random.Random

    def ask_one(self, *, main: bool = False) -> None:
        """One question to a sync credential, and what the resource says to the token."""
        held = self.credentials.any_sync()
        ask, info = held.ask(self.dice), self.dice.random() < 0.5
        facts = self.calls.sync(held.credential, ask, info=info, main=main)
        challenge = self.calls.challenge(ask, facts)
        if challenge is not None:
            self.calls.sync(held.credential, challenge, info=info, main=main)


class CallingBack(logging.Handler):
    """A log handler that itself asks for a token, as those do that send records to Azure.

    Args:
        context: to ask in.
        locked: whether records wait for each other, as with every ordinary handler.
    """

    def __init__(self, context: Context, *, locked: bool) -> None:
        super().__init__()
        self._scene = context
        self._locked = locked
        self._local = threading.local()

    def handle(self, record: logging.LogRecord) -> bool:
        if self._locked:
            return bool(super().handle(record))
        self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        self._scene.counts["log records"] += 1
        self._scene.calls.check_words(record.getMessage())
        if getattr(self._local, "inside", False):
            return
        try:
            self._local.inside = True
            self._scene.counts["faults: log handlers that called back"] += 1
            main = threading.current_thread() is threading.main_thread()
            self._scene.ask_one(main=main)
        finally:
            self._local.inside = False
