"""A `get_token` that misses, as data: through each room once on its way down, and once back."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import imds_identity
from imds_identity import ManagedIdentityCredential
from imds_identity._http import transport as sender
from support import FakeClock, ResponseFactory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imds_identity._http.messages import Request, Response
    from imds_identity._http.runner import Sender
    from imds_identity._platform.clock import Clock
    from imds_identity._token_cache.cache import TokenCache

PACKAGE = Path(imds_identity.__file__).parent


def rooms_on_the_stack() -> list[str]:
    """The rooms that are at work, the one that was entered first at the front."""
    rooms: list[str] = []
    frame = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(PACKAGE):
            room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
            if rooms[-1:] != [room]:
                rooms.append(room)
        frame = frame.f_back  # type: ignore[assignment]
    return rooms[::-1]


@pytest.mark.parametrize("cache", ["off", "shared"])
def test_no_room_is_entered_twice(
    token_cache: TokenCache,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    clock: FakeClock,
    cache: str,
) -> None:
    seen: list[list[str]] = []

    @contextmanager
    def recording(clock: Clock) -> Iterator[Sender]:
        def send(request: Request) -> Response:
            seen.append(rooms_on_the_stack())
            return responses.token()

        yield send

    responses = ResponseFactory(clock)
    monkeypatch.setattr(sender, "direct_sender", recording)
    directory = str(tmp_path / cache) if cache == "shared" else cache
    credential = ManagedIdentityCredential(cache=directory, _token_cache=token_cache)
    assert credential.get_token("https://vault.azure.net").token == "a-token"
    assert seen == [["credential", "_token_cache", "_sources", "_http"]]
