"""What the workers of a cluster are sent to do."""

from __future__ import annotations

import hashlib
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imds_identity import ManagedIdentityCredential

SCOPE = "https://storage.azure.com/.default"
LONGEST = 60.0


def arrive() -> None:
    """Load what a token takes, slow as that may be; the first token lives for seconds."""
    import azure.core.credentials
    import requests

    assert azure.core.credentials
    assert requests


def token_digest(credential: ManagedIdentityCredential) -> tuple[int, str]:
    """This process, and a digest of the token that it is given."""
    token = credential.get_token(SCOPE).token
    return os.getpid(), hashlib.sha256(token.encode()).hexdigest()


def see_it_replaced(credential: ManagedIdentityCredential) -> list[str]:
    """Digests of the present token and of the next, asking all the time, as a busy worker does."""
    seen = [token_digest(credential)[1]]
    end = time.monotonic() + LONGEST
    while len(seen) < 2 and time.monotonic() < end:
        time.sleep(0.01)
        digest = token_digest(credential)[1]
        if digest not in seen:
            seen.append(digest)
    return seen
