"""The jobs that run on the workers of a cluster."""

from __future__ import annotations

import hashlib
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imds_identity import ManagedIdentityCredential

SCOPE = "https://storage.azure.com/.default"
TIMEOUT_SECONDS = 60.0


def import_dependencies() -> None:
    """Import slow dependencies now, because the first token expires after seconds."""
    import azure.core.credentials
    import requests

    assert azure.core.credentials
    assert requests


def token_digest(credential: ManagedIdentityCredential) -> tuple[int, str]:
    """Return this process's id and a digest of its token."""
    token = credential.get_token(SCOPE).token
    return os.getpid(), hashlib.sha256(token.encode()).hexdigest()


def wait_for_renewal(credential: ManagedIdentityCredential) -> list[str]:
    """Call `get_token` until the token changes; return the digests of both tokens."""
    seen = [token_digest(credential)[1]]
    end = time.monotonic() + TIMEOUT_SECONDS
    while len(seen) < 2 and time.monotonic() < end:
        time.sleep(0.01)
        digest = token_digest(credential)[1]
        if digest not in seen:
            seen.append(digest)
    return seen
