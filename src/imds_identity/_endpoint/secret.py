"""What clients must know."""

from __future__ import annotations

import os

from .._core.secret import Secret

_BYTES = 32


def new_secret() -> Secret:
    """256 random bits, in letters that fit into a header and a path."""
    return Secret(os.urandom(_BYTES).hex())
