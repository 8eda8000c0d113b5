"""The key files of Azure Arc's challenge, which only privileged users may read."""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
import sys
import uuid
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from .._clock import Clock

_MAX_FILES = 64


def share_with_group(file: int | Path, mode: int, group: int | None) -> None:
    """Give a group, if there is one, access to a file or directory."""
    if group is not None and sys.platform != "win32":
        os.chown(file, -1, group)
        os.chmod(file, mode)


@dataclass(frozen=True, slots=True)
class _Key:
    secret: bytes = field(repr=False)
    expires: float


class KeyFiles:
    """Files with secrets; each secret authorizes one request within ``lifetime`` seconds."""

    def __init__(
        self, directory: Path, lifetime: float, clock: Clock, group: int | None = None
    ) -> None:
        self.directory = directory
        self._group = group  # the id of the group that may read the files
        self._lifetime = lifetime
        self._clock = clock
        self._keys: OrderedDict[str, _Key] = OrderedDict()

    def create(self) -> str:
        """Write a new file, remove those that have expired, and return the new file's path."""
        self._remove_expired()
        path = os.path.join(self.directory, f"{uuid.uuid4()}.key")
        secret = secrets.token_urlsafe(96).encode()
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(path, flags, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            share_with_group(descriptor, 0o640, self._group)
            file.write(secret)
        self._keys[path] = _Key(secret, self._clock.time() + self._lifetime)
        return path

    def redeem(self, secret: bytes) -> bool:
        """Return whether a secret is valid, and remove it."""
        found = None
        for path, key in self._keys.items():
            if hmac.compare_digest(key.secret, secret):
                found = path
        if found is None:
            return False
        key = self._keys[found]
        self._remove(found)
        return self._clock.time() < key.expires

    def remove_all(self) -> None:
        for path in list(self._keys):
            self._remove(path)

    def _remove_expired(self) -> None:
        now = self._clock.time()
        for path in [path for path, key in self._keys.items() if key.expires <= now]:
            self._remove(path)
        while len(self._keys) >= _MAX_FILES:
            self._remove(next(iter(self._keys)))

    def _remove(self, path: str) -> None:
        del self._keys[path]
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
