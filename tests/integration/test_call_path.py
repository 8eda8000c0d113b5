"""A cache miss enters each package of the call path only once."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import imds_identity
from imds_identity import ManagedIdentityCredential
from imds_identity._http import transport
from support import FakeClock, ResponseFactory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imds_identity._http.messages import Request, Response
    from imds_identity._http.runner import Sender
    from imds_identity._platform.clock import Clock
    from imds_identity._token_cache.cache import TokenCache

PACKAGE = Path(imds_identity.__file__).parent


def packages_on_the_stack() -> list[str]:
    """Return the packages on the call stack, the outermost first."""
    packages: list[str] = []
    frame = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(PACKAGE):
            package = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
            if packages[-1:] != [package]:
                packages.append(package)
        frame = frame.f_back  # type: ignore[assignment]
    return packages[::-1]


@pytest.mark.parametrize("cache", ["off", "shared"])
def test_no_package_is_entered_twice(
    token_cache: TokenCache,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    clock: FakeClock,
    cache: str,
) -> None:
    call_paths: list[list[str]] = []

    @contextmanager
    def recording_sender(clock: Clock) -> Iterator[Sender]:
        def send(request: Request) -> Response:
            call_paths.append(packages_on_the_stack())
            return responses.token()

        yield send

    responses = ResponseFactory(clock)
    monkeypatch.setattr(transport, "direct_sender", recording_sender)
    directory = str(tmp_path / cache) if cache == "shared" else cache
    credential = ManagedIdentityCredential(cache=directory, _token_cache=token_cache)
    assert credential.get_token("https://vault.azure.net").token == "a-token"
    assert call_paths == [["credential", "_token_cache", "_sources", "_http"]]
