"""The call paths in docs/architecture.md are the calls that a token request makes."""

from __future__ import annotations

import re
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import imds_identity
from imds_identity import ManagedIdentityCredential
from imds_identity._http import transport
from imds_identity._shared_cache import location
from imds_identity._token_cache.cache import TokenCache
from markdown_blocks import ROOT
from support import BackgroundQueue, FakeClock, ResponseFactory, no_jitter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from typing_extensions import Self

    from imds_identity._http.messages import Request, Response
    from imds_identity._http.runner import Sender
    from imds_identity._platform.clock import Clock

PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
PACKAGE = Path(imds_identity.__file__).parent
SCOPE = "https://vault.azure.net/.default"
CLAIMS = '{"access_token": {"nbf": {"essential": true, "value": "4000000000"}}}'
PATHS = ("A hit", "A miss", "A shared hit", "A refresh", "A claims challenge")


def call_path(title: str) -> list[str]:
    """The functions that the page lists under a title."""
    section = PAGE.partition(f"\n### {title}\n")[2].partition("\n#")[0]
    return re.findall(r"^\d+\. `([\w.]+)`", section, re.MULTILINE)


class Calls:
    """Records the package's functions that are called, as ``module.function``."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def record(self, frame: FrameType, event: str, _arg: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(PACKAGE):
            module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
            self.names.append(f"{module}.{frame.f_code.co_name}")

    def __enter__(self) -> Self:
        threading.setprofile(self.record)
        sys.setprofile(self.record)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        threading.setprofile(None)


def is_subsequence(expected: list[str], names: list[str]) -> bool:
    rest = iter(names)
    return all(name in rest for name in expected)


@pytest.fixture
def credential(
    token_cache: TokenCache, clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """Creates credentials that share a directory."""
    responses = ResponseFactory(clock)

    @contextmanager
    def open_sender(_clock: Clock) -> Iterator[Sender]:
        def send(_request: Request) -> Response:
            return responses.token()

        yield send

    monkeypatch.setattr(transport, "direct_sender", open_sender)
    monkeypatch.setattr(location, "SYSTEM_CLOCK", clock)
    directory = str(tmp_path / "shared")

    def create(cache: TokenCache = token_cache) -> ManagedIdentityCredential:
        created = ManagedIdentityCredential(cache=directory, _token_cache=cache)
        shared_cache = created._client.shared_cache
        assert shared_cache
        assert shared_cache.usable()  # from now on it is known that the directory does not hang
        return created

    return create


@pytest.mark.parametrize("title", PATHS)
def test_listed_functions_are_called_in_this_order(
    title: str, credential: Callable[..., Any], clock: FakeClock, background: BackgroundQueue
) -> None:
    expected = call_path(title)
    assert expected
    first = credential()
    if title != "A miss":
        first.get_token(SCOPE)
    claims = None
    if title == "A shared hit":
        first = credential(TokenCache(clock, no_jitter))
    elif title == "A refresh":
        clock.sleep(13 * 3600)
    elif title == "A claims challenge":
        claims = CLAIMS
    with Calls() as calls:
        first.get_token(SCOPE, claims=claims)
        background.run()
    assert is_subsequence(expected, calls.names), calls.names


def test_a_hit_calls_no_other_function(credential: Callable[..., Any]) -> None:
    warm = credential()
    warm.get_token(SCOPE)
    with Calls() as calls:
        warm.get_token(SCOPE)
    assert calls.names == call_path("A hit")
