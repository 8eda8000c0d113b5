"""What the actors of a worker share."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import random
    from collections import Counter

    from .board import Board
    from .calls import Calls
    from .children import Children
    from .journal import Journal
    from .stock import Stock
    from .watch import Watch


class Scene(NamedTuple):
    """One worker process."""

    folder: str
    board: Board
    journal: Journal
    counts: Counter[str]
    watch: Watch
    calls: Calls
    stock: Stock
    children: Children
    dice: random.Random

    def ask_one(self, *, main: bool = False) -> None:
        """One question to a sync credential, and what the resource says to the token."""
        held = self.stock.any_sync()
        ask, info = held.ask(self.dice), self.dice.random() < 0.5
        facts = self.calls.sync(held.credential, ask, info=info, main=main)
        challenge = self.calls.challenge(ask, facts)
        if challenge is not None:
            self.calls.sync(held.credential, challenge, info=info, main=main)


class CallingBack(logging.Handler):
    """A log handler that itself asks for a token, as those do that send records to Azure.

    Args:
        scene: to ask in.
        locked: whether records wait for each other, as with every ordinary handler.
    """

    def __init__(self, scene: Scene, *, locked: bool) -> None:
        super().__init__()
        self._scene = scene
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
