"""A cache miss enters each module of its call path only once, on whatever way it is sent."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.pipeline.transport import AsyncioRequestsTransport, RequestsTransport

import imds_identity
import imds_identity.aio
from imds_identity import ManagedIdentityCredential

if TYPE_CHECKING:
    from imds_identity.emulator import Emulator

PACKAGE = Path(imds_identity.__file__).parent
SCOPE = "https://vault.azure.net/.default"
FETCH = ["_token_cache.cache", "_token_cache.fetch", "_token_cache.token_exchange"]
EXCHANGE = ["_sources.azure_vm", "_http.runner"]
TRANSPORT = ["_azure_core.transports.sender", "_azure_core.transports.pipeline"]


def modules_on_the_stack() -> list[str]:
    """Return the package's modules on the call stack, the outermost first."""
    modules: list[str] = []
    frame = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(PACKAGE):
            module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
            if modules[-1:] != [module]:
                modules.append(module)
        frame = frame.f_back  # type: ignore[assignment]
    return modules[::-1]


@pytest.fixture
def call_paths(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The modules that were on the stack of each connection to the emulator."""
    import socket

    paths: list[list[str]] = []
    connect = socket.socket.connect

    def recording_connect(self: socket.socket, address: Any) -> None:
        if modules := modules_on_the_stack():
            paths.append(modules)
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", recording_connect)
    return paths


def check(call_paths: list[list[str]], *expected: str) -> None:
    assert len(call_paths) == 1
    assert len(call_paths[0]) == len(set(call_paths[0])), "a module was entered twice"
    assert [module for module in call_paths[0] if module in expected] == list(expected)


@pytest.mark.parametrize("cache", ["off", "shared"])
def test_a_miss(
    imds_emulator: Emulator, tmp_path: Path, call_paths: list[list[str]], cache: str
) -> None:
    directory = str(tmp_path / cache) if cache == "shared" else cache
    assert ManagedIdentityCredential(cache=directory).get_token(SCOPE).token
    check(call_paths, "_platform.threads", *FETCH, *EXCHANGE, "_http.transport", "_http.connection")


def test_a_miss_with_a_transport(imds_emulator: Emulator, call_paths: list[list[str]]) -> None:
    credential = ManagedIdentityCredential(transport=RequestsTransport())
    assert credential.get_token(SCOPE).token
    check(call_paths, *FETCH, *EXCHANGE, *TRANSPORT, "_http.requests_transport")


def test_an_async_miss(imds_emulator: Emulator, call_paths: list[list[str]]) -> None:
    async def request() -> None:
        assert (await imds_identity.aio.ManagedIdentityCredential().get_token(SCOPE)).token

    asyncio.run(request())
    check(call_paths, *FETCH, *EXCHANGE, "_http.transport")


def test_an_async_miss_with_a_transport(
    imds_emulator: Emulator, call_paths: list[list[str]]
) -> None:
    """The transport runs on an executor of the caller's event loop."""

    async def request() -> None:
        async with imds_identity.aio.ManagedIdentityCredential(
            transport=AsyncioRequestsTransport()
        ) as credential:
            assert (await credential.get_token(SCOPE)).token

    asyncio.run(request())
    check(call_paths, "_http.requests_transport")
