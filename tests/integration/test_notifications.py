"""Log lines and event hooks: they follow the fetch, cannot break it, and contain no secret."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

import imds_identity.aio
from imds_identity import ManagedIdentityCredential, ManagedIdentityError, clear_cache
from imds_identity._token_cache.process import process_token_cache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from imds_identity.emulator import Emulator
    from imds_identity.telemetry import Event

SCOPE = "https://vault.azure.net/.default"


def wait_for(condition: Callable[[], Any]) -> Any:
    """Wait until ``condition()`` is true: hooks and log lines follow the return of the call."""
    for _ in range(1000):
        if found := condition():
            return found
        time.sleep(0.01)
    raise AssertionError("the condition did not become true")


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[str], list[str]]]:
    caplog.set_level(logging.DEBUG, "imds_identity")
    yield lambda start: [line for line in caplog.messages if line.startswith(start)]
    assert "eyJ" not in caplog.text


def make_due(credential: ManagedIdentityCredential) -> None:
    """Make the token due: the next call returns it and starts a refresh."""
    entry = credential._entries[SCOPE]
    assert entry.token is not None
    entry.hit_until = 0
    entry.token = entry.token.replace(refresh_at=process_token_cache().clock.now() - 1)


class TestLogging:
    @pytest.mark.parametrize(
        ("settings", "description"),
        [
            ({}, "Azure VM (IMDS) with the system-assigned identity"),
            ({"client_id": "an-id"}, "Azure VM (IMDS) with client_id 'an-id'"),
            ({"source": "arc"}, "Azure Arc (HIMDS) with the system-assigned identity"),
        ],
    )
    def test_new_credential_logs_its_source_and_identity(
        self, caplog: pytest.LogCaptureFixture, settings: dict[str, Any], description: str
    ) -> None:
        caplog.set_level(logging.INFO, "imds_identity")
        ManagedIdentityCredential(**settings)
        assert caplog.messages == [f"ManagedIdentityCredential will use {description}"]

    def test_new_credential_logs_other_hosts(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        caplog.set_level(logging.INFO, "imds_identity")
        monkeypatch.setenv("IDENTITY_ENDPOINT", "http://127.0.0.1:9/token")
        monkeypatch.setenv("IDENTITY_HEADER", "s3cret")
        imds_identity.aio.ManagedIdentityCredential(client_id="an-id")
        [message] = caplog.messages
        assert "will use App Service" in message
        assert message.endswith("with client_id 'an-id'")
        assert "s3cret" not in message

    def test_fetch_is_logged_with_its_duration(
        self, imds_emulator: Emulator, lines: Callable[[str], list[str]]
    ) -> None:
        ManagedIdentityCredential().get_token(SCOPE)
        [message] = wait_for(lambda: lines("fetched a token for "))
        assert "'https://vault.azure.net' as system-assigned identity in " in message

    def test_refresh_is_logged(
        self, imds_emulator: Emulator, lines: Callable[[str], list[str]]
    ) -> None:
        credential = ManagedIdentityCredential()
        credential.get_token(SCOPE)
        make_due(credential)
        credential.get_token(SCOPE)
        assert len(wait_for(lambda: lines("refreshed a token for "))) == 1

    def test_unavailable_identity_is_logged(
        self, monkeypatch: pytest.MonkeyPatch, lines: Callable[[str], list[str]]
    ) -> None:
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:1")
        with pytest.raises(ManagedIdentityError):
            ManagedIdentityCredential(retry_total=0).get_token(SCOPE)
        [message] = wait_for(lambda: lines("no managed identity is available after 0."))
        assert "no connection" in message

    def test_refused_request_is_logged(
        self, imds_emulator: Emulator, lines: Callable[[str], list[str]]
    ) -> None:
        imds_emulator.fault(status=500, times=1)
        with pytest.raises(ManagedIdentityError):
            ManagedIdentityCredential(retry_total=0).get_token(SCOPE)
        assert "500" in wait_for(lambda: lines("fetching a token failed after "))[0]

    def test_use_of_a_shared_token_is_logged(
        self, imds_emulator: Emulator, lines: Callable[[str], list[str]], tmp_path: Path
    ) -> None:
        ManagedIdentityCredential(cache=tmp_path / "c").get_token(SCOPE)
        process_token_cache().clear()
        ManagedIdentityCredential(cache=tmp_path / "c").get_token(SCOPE)
        assert len(wait_for(lambda: lines("using the token of another process"))) == 1
        assert len(imds_emulator.token_requests) == 1

    def test_log_handler_can_wait_for_the_thread_that_adopts_a_token(
        self,
        imds_emulator: Emulator,
        lines: Callable[[str], list[str]],
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        monkeypatch.setattr("imds_identity._platform.log.LOG_SECONDS", 0.01)
        ManagedIdentityCredential(cache=tmp_path / "c").get_token(SCOPE)
        process_token_cache().clear()
        adopted, waited = threading.Event(), list[bool]()

        def slow_log(level: str, message: str, *args: object) -> None:
            if message.startswith("using the token of another process"):
                waited.append(adopted.wait(10))

        monkeypatch.setattr("imds_identity._platform.log.log", slow_log)
        ManagedIdentityCredential(cache=tmp_path / "c").get_token(SCOPE)
        adopted.set()
        assert wait_for(lambda: waited) == [True]

    def test_token_is_available_while_the_logging_lock_is_held(
        self, imds_emulator: Emulator, tmp_path: Path
    ) -> None:
        """A signal handler that raises in `getLogger` leaves this lock held."""

        def fetch_tokens() -> None:
            for cache in ("off", tmp_path / "c"):
                process_token_cache().clear()
                ManagedIdentityCredential(cache=cache).get_token(SCOPE)

        fetch_tokens()  # imports for the first token may create loggers
        with logging._lock:  # type: ignore[attr-defined]
            other = threading.Thread(target=fetch_tokens, daemon=True)
            other.start()
            other.join(10)
            assert not other.is_alive()
        assert len(imds_emulator.token_requests) == 3


class TestHooks:
    def test_hook_receives_the_outcome_of_each_fetch(self, imds_emulator: Emulator) -> None:
        events: list[Event] = []
        credential = ManagedIdentityCredential(on_event=events.append, cache="off")
        credential.get_token(SCOPE)
        wait_for(lambda: len(events) == 1)
        make_due(credential)
        credential.get_token(SCOPE)
        wait_for(lambda: len(events) == 2)
        imds_emulator.fault(status=403, times=2)
        make_due(credential)
        credential.get_token(SCOPE)
        wait_for(lambda: len(events) == 3)
        clear_cache()
        with pytest.raises(ManagedIdentityError):
            credential.get_token(SCOPE)
        wait_for(lambda: len(events) == 4)
        assert [(event.name, event.source, event.outcome) for event in events] == [
            ("fetch", "imds", "fetched"),
            ("refresh", "imds", "fetched"),
            ("failure", "imds", "refused"),
            ("failure", "imds", "refused"),
        ]
        assert all(0 < event.seconds < 60 for event in events)
        assert [event.remaining > 3600 for event in events] == [True, True, True, False]
        assert events[3].remaining == 0

    def test_hook_receives_the_use_of_a_shared_token(
        self, imds_emulator: Emulator, tmp_path: Path
    ) -> None:
        events: list[Event] = []
        ManagedIdentityCredential(cache=tmp_path / "c").get_token(SCOPE)
        shared_cache = ManagedIdentityCredential(cache=tmp_path / "c")._client.shared_cache
        assert shared_cache is not None
        credential = ManagedIdentityCredential(cache=tmp_path / "c", on_event=events.append)
        entry = credential._client.entry("https://vault.azure.net")
        process_token_cache().clear()
        entry.version = shared_cache.version(entry.key)  # as if the token appeared after this check
        credential.get_token(SCOPE)
        [event] = wait_for(lambda: list(events))
        assert (event.name, event.outcome) == ("fetch", "shared")
        assert len(imds_emulator.token_requests) == 1

    def test_raising_hook_does_not_affect_the_call(
        self, imds_emulator: Emulator, caplog: pytest.LogCaptureFixture
    ) -> None:
        def hook(event: Event) -> None:
            raise RuntimeError("of the hook")

        credential = ManagedIdentityCredential(on_event=hook)
        assert credential.get_token(SCOPE).token
        wait_for(lambda: "on_event hook raised" in caplog.text)
        assert "RuntimeError: of the hook" in caplog.text
        assert credential.get_token(SCOPE).token

    def test_hanging_hook_does_not_block_calls(self, imds_emulator: Emulator) -> None:
        called, release = threading.Event(), threading.Event()

        def hook(event: Event) -> None:
            called.set()
            release.wait(30)

        credential = ManagedIdentityCredential(on_event=hook)
        try:
            first = credential.get_token(SCOPE).token
            assert called.wait(10)
            assert credential.get_token(SCOPE).token == first
            clear_cache()
            assert credential.get_token(SCOPE).token
        finally:
            release.set()

    def test_hook_can_use_the_credential(self, imds_emulator: Emulator) -> None:
        tokens: list[str] = []
        credential = ManagedIdentityCredential(
            on_event=lambda _: tokens.append(credential.get_token(SCOPE).token)
        )
        token = credential.get_token(SCOPE).token
        assert wait_for(lambda: tokens) == [token]

    async def _fetch_async(self, events: list[Event]) -> None:
        async with imds_identity.aio.ManagedIdentityCredential(
            on_event=events.append
        ) as credential:
            await credential.get_token(SCOPE)

    def test_async_credential_calls_hooks(self, imds_emulator: Emulator) -> None:
        import asyncio

        events: list[Event] = []
        asyncio.run(self._fetch_async(events))
        assert wait_for(lambda: list(events))[0].name == "fetch"
