"""The token endpoint of Azure Arc's agent (HIMDS): a challenge that only privileged users pass."""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
import uuid
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .._world.identities import find_identity
from .rules import Complaint, identity_error
from .token import TokenEndpoint

if TYPE_CHECKING:
    from pathlib import Path

    from .._clock import Clock
    from .._messages import Request, Response
    from .._world.identities import Identity, Selector
    from .._world.world import World

_MOST_OUTSTANDING = 64


@dataclass(frozen=True, slots=True)
class _Key:
    secret: bytes = field(repr=False)
    expires: float


class KeyFiles:
    """The files that prove that a client may read what only privileged users may.

    Each holds a secret that opens one request, within its lifetime.

    Args:
        directory: Where they lie; made when missing.
        lifetime: Seconds that one holds.
        clock: Tells the time.
    """

    def __init__(self, directory: Path, lifetime: float, clock: Clock) -> None:
        self.directory = directory
        self._lifetime = lifetime
        self._clock = clock
        self._keys: OrderedDict[str, _Key] = OrderedDict()

    def create(self) -> str:
        """Writes a new file, removes those that are spent, and returns its path."""
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
        """Returns whether a secret opens a request; it does so once."""
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
        """Removes every file that was written and is still there."""
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


class ArcTokenEndpoint(TokenEndpoint):
    """``/metadata/identity/oauth2/token`` as Arc's agent has it.

    Args:
        world: The shared state.
        keys: The challenge's files.
        ignores_selector: As older agents do, answer for the system-assigned identity whatever the
            request names, and echo nothing.
    """

    def __init__(self, world: World, keys: KeyFiles, *, ignores_selector: bool) -> None:
        super().__init__(world)
        self._keys = keys
        self._ignores_selector = ignores_selector

    def refuse(self, request: Request) -> Response | None:
        """Returns the challenge, unless the request carries the secret of an earlier one."""
        scheme, _, secret = (request.header("authorization") or "").partition(" ")
        if scheme.lower() == "basic" and self._keys.use(secret.strip().encode()):
            return None
        missing = not scheme
        words = "Missing Basic Authorization header" if missing else "Invalid or expired secret"
        challenge = {"WWW-Authenticate": f"Basic realm={self._keys.create()}"}
        return identity_error(Complaint(401, words, headers=challenge))

    def choose(self, selector: Selector | None) -> tuple[Identity, dict[str, str]]:
        """Returns the identity, and what of the selector the answer echoes."""
        if self._ignores_selector:
            return find_identity(self.world.identities, None), {}
        return super().choose(selector)
