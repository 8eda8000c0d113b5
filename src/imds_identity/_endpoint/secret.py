"""The secret that clients of the endpoint send."""

from __future__ import annotations

import os

from .._core.secret import Secret
from .._platform.files import read_private

_BYTES = 32
_SHORTEST = 32
_ALLOWED = frozenset("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_.~")


def new_secret() -> Secret:
    """Return 256 random bits as hexadecimal digits, which fit into a header and a path."""
    return Secret(os.urandom(_BYTES).hex())


def read_secret(path: str) -> Secret:
    """Read the secret from a file of mode 0600."""
    secret = Secret(read_private(path).decode("latin-1").strip())
    if len(secret) < _SHORTEST or not _ALLOWED.issuperset(secret.reveal()):
        raise ValueError(
            f"{path} must hold at least {_SHORTEST} letters, digits or -_.~; "
            "create one with: openssl rand -hex 32"
        )
    return secret
