"""A WSGI application that starts to fetch a token when it is loaded; its workers need the token."""

from __future__ import annotations

import os
import threading
import time
from hashlib import sha256
from typing import TYPE_CHECKING

from imds_identity import ManagedIdentityCredential

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

CREDENTIAL = ManagedIdentityCredential()


def token_digest() -> str:
    """Return a digest of the token, which is not a secret."""
    token = CREDENTIAL.get_token("https://vault.azure.net/.default").token
    return sha256(token.encode()).hexdigest()


threading.Thread(target=token_digest, daemon=True).start()
# A worker hangs if a thread of its parent was running at the fork, whatever it did: uWSGI releases
# the GIL and does not reset it in the child. From here on, the thread waits for the response.
time.sleep(1)


def application(
    environ: dict[str, object], start_response: Callable[[str, list[tuple[str, str]]], object]
) -> Iterable[bytes]:
    """Respond with the process and a digest of the token."""
    body = f"{os.getpid()} {token_digest()}".encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
