"""A WSGI application that fetches a token when it is loaded; a hook then keeps the thread busy."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from imds_identity import ManagedIdentityCredential

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def hook(event: object) -> None:
    """Calculate for some hundredths of a second, after the caller has received the token."""
    for _ in range(3_000_000):
        pass


CREDENTIAL = ManagedIdentityCredential(on_event=hook)


def application(
    environ: dict[str, object], start_response: Callable[[str, list[tuple[str, str]]], object]
) -> Iterable[bytes]:
    """Respond with the process and a constant."""
    time.sleep(0.02)  # all workers are busy if many clients send requests
    body = f"{os.getpid()} constant".encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


CREDENTIAL.get_token("https://resource-0.example/.default")
