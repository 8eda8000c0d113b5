"""A WSGI application that fetches a token when it is loaded; a hook then keeps the thread busy."""

from __future__ import annotations

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
    """Respond with nothing."""
    start_response("200 OK", [("Content-Length", "0")])
    return [b""]


CREDENTIAL.get_token("https://resource-0.example/.default")
