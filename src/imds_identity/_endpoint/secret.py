"""What clients must know."""

from __future__ import annotations

import os

from .._core.secret import Secret
from .._platform.files import read_private

_BYTES = 32
_LEAST = 32
_FIT = frozenset("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_.~")


def new_secret() -> Secret:
    """256 random bits, in letters that fit into a header and a path."""
    return Secret(os.urandom(_BYTES).hex())


def secret_in(path: str) -> Secret:
    """The secret that a file of mode 0600 holds.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if others may read it, or what it holds is short or fits into no header.
    """
    secret = Secret(read_private(path).decode("latin-1").strip())
    if len(secret) < _LEAST or not _FIT.issuperset(secret.reveal()):
        raise ValueError(
            f"{path} must hold at least {_LEAST} letters, digits or -_.~ such as: "
            "openssl rand -hex 32"
        )
    return secret
