"""A WSGI application that starts to fetch a token when it is loaded.

The path of a request is the number of a resource; `/0` needs the token that is being fetched.
"""

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


def token_digest(path: object = "/0") -> str:
    """Return a digest of a token, which is not a secret."""
    number = str(path).strip("/")
    token = CREDENTIAL.get_token(f"https://resource-{number}.example/.default").token
    return sha256(token.encode()).hexdigest()


threading.Thread(target=token_digest, daemon=True).start()
# A worker hangs if a thread of its parent was running at the fork, whatever it did: uWSGI releases
# the GIL and does not reset it in the child. The thread waits for the response, and wakes up every
# half second.
time.sleep(0.75)


def application(
    environ: dict[str, object], start_response: Callable[[str, list[tuple[str, str]]], object]
) -> Iterable[bytes]:
    """Respond with the process and a digest of the token."""
    time.sleep(0.02)  # all workers are busy if many clients send requests
    body = f"{os.getpid()} {token_digest(environ['PATH_INFO'])}".encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
