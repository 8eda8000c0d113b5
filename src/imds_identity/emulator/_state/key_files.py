"""The files of Azure Arc's challenge, which only privileged users may read."""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
import uuid
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from .._clock import Clock

_MOST_OUTSTANDING = 64


@dataclass(frozen=True, slots=True)
class _Key:
    secret: bytes = field(repr=False)
    expires: float


class KeyFiles:
    """The files that prove that a client may read what only privileged users may.

    Each holds a secret that opens one request, within its lifetime.

    Args:
        directory: where they lie; made when missing.
        lifetime: seconds that one holds.
        clock: the time.
    """

    def __init__(self, directory: Path, lifetime: float, clock: Clock) -> None:
        self.directory = directory
        self._lifetime = lifetime
        self._clock = clock
        self._keys: OrderedDict[str, _Key] = OrderedDict()

    def create(self) -> str:
        """Write a new file and remove those that are spent; its path."""
        self._remove_spent()
        path = os.path.join(self.directory, f"{uuid.uuid4()}.key")
        secret = secrets.token_urlsafe(96).encode()
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(path, flags, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secret)
        self._keys[path] = _Key(secret, self._clock.time() + self._lifetime)
        return path

    def use(self, secret: bytes) -> bool:
        """Whether a secret opens a request; it does so once."""
        opened = None
        for path, key in self._keys.items():
            if hmac.compare_digest(key.secret, secret):
                opened = path
        if opened is None:
            return False
        key = self._keys[opened]
        self._remove(opened)
        return self._clock.time() < key.expires

    def remove_all(self) -> None:
        """Remove every file that was written and is still there."""
        for path in list(self._keys):
            self._remove(path)

    def _remove_spent(self) -> None:
        now = self._clock.time()
        for path in [path for path, key in self._keys.items() if key.expires <= now]:
            self._remove(path)
        while len(self._keys) >= _MOST_OUTSTANDING:
            self._remove(next(iter(self._keys)))

    def _remove(self, path: str) -> None:
        del self._keys[path]
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
