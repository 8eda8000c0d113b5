"""What is logged and what hooks are told: after the fact, to nobody's harm, and never a secret."""

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


def eventually(look: Callable[[], Any]) -> Any:
    """What is told comes once nobody waits for the token any more."""
    for _ in range(1000):
        if found := look():
            return found
        time.sleep(0.01)
    raise AssertionError("it did not come")


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[str], list[str]]]:
    caplog.set_level(logging.DEBUG, "imds_identity")
    yield lambda start: [line for line in caplog.messages if line.startswith(start)]
    assert "eyJ" not in caplog.text


def make_due(credential: ManagedIdentityCredential) -> None:
    """The next call serves the token that is there, and begins a refresh."""
    entry = credential._entries[SCOPE]
    assert entry.token is not None
    entry.hit_until = 0
    entry.token = entry.token.replaced(refresh_at=process_token_cache().clock.now() - 1)


class TestTheLog:
    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({}, "Azure VM (IMDS) with the system-assigned identity"),
            ({"client_id": "an-id"}, "Azure VM (IMDS) with client_id 'an-id'"),
            ({"source": "arc"}, "Azure Arc (HIMDS) with the system-assigned identity"),
        ],
    )
    def test_a_new_credential_says_once_what_it_will_use(
        self, caplog: pytest.LogCaptureFixture, settings: dict[str, Any], words: str
    ) -> None:
        caplog.set_level(logging.INFO, "imds_identity")
        ManagedIdentityCredential(**settings)
        assert caplog.messages == [f"ManagedIdentityCredential will use {words}"]

    def test_other_hosts_are_named_as_well(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        caplog.set_level(logging.INFO, "imds_identity")
        monkeypatch.setenv("IDENTITY_ENDPOINT", "http://127.0.0.1:9/token")
        monkeypatch.setenv("IDENTITY_HEADER", "s3cret")
        imds_identity.aio.ManagedIdentityCredential(client_id="an-id")
        [said] = caplog.messages
        assert "will use App Service" in said
        assert said.endswith("with client_id 'an-id'")
        assert "s3cret" not in said

    def test_a_fetch_with_how_long_it_took(
        self, imds_emulator: Emulator, lines: Callable[[str], list[str]]
    ) -> None:
        ManagedIdentityCredential().get_token(SCOPE)
        [said] = eventually(lambda: lines("fetched a token for "))
        assert "'https://vault.azure.net' as system-assigned identity in 0." in said

    def test_a_refresh(self, imds_emulator: Emulator, lines: Callable[[str], list[str]]) -> None:
        credential = ManagedIdentityCredential()
        credential.get_token(SCOPE)
        make_due(credential)
        credential.get_token(SCOPE)
        assert len(eventually(lambda: lines("refreshed a token for "))) == 1

    def test_giving_way(
        self, monkeypatch: pytest.MonkeyPatch, lines: Callable[[str], list[str]]
    ) -> None:
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:1")
        with pytest.raises(ManagedIdentityError):
            ManagedIdentityCredential(retry_total=0).get_token(SCOPE)
        [said] = eventually(lambda: lines("no managed identity is available after 0."))
        assert "no connection" in said

    def test_a_refusal(self, imds_emulator: Emulator, lines: Callable[[str], list[str]]) -> None:
        imds_emulator.fault(status=500, times=1)
        with pytest.raises(ManagedIdentityError):
            ManagedIdentityCredential(retry_total=0).get_token(SCOPE)
        assert "500" in eventually(lambda: lines("fetching a token failed after "))[0]

    def test_what_another_process_has_fetched(
        self, imds_emulator: Emulator, lines: Callable[[str], list[str]], tmp_path: Path
    ) -> None:
        ManagedIdentityCredential(cache=tmp_path / "c").get_token(SCOPE)
        process_token_cache().clear()
        ManagedIdentityCredential(cache=tmp_path / "c").get_token(SCOPE)
        assert len(eventually(lambda: lines("using the token of another process"))) == 1
        assert len(imds_emulator.token_requests) == 1

    def test_a_handler_may_wait_for_who_takes_a_token_over(
        self,
        imds_emulator: Emulator,
        lines: Callable[[str], list[str]],
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        monkeypatch.setattr("imds_identity._platform.log.LOG_SECONDS", 0.01)
        ManagedIdentityCredential(cache=tmp_path / "c").get_token(SCOPE)
        process_token_cache().clear()
        had, waited = threading.Event(), list[bool]()
        monkeypatch.setattr(
            "imds_identity._platform.log.log", lambda *_: waited.append(had.wait(10))
        )
        ManagedIdentityCredential(cache=tmp_path / "c").get_token(SCOPE)
        had.set()
        assert eventually(lambda: waited) == [True]

    def test_a_token_is_had_while_the_lock_of_all_loggers_is_held(
        self, imds_emulator: Emulator, tmp_path: Path
    ) -> None:
        """A signal handler that raised in `getLogger` leaves it held, whoever called that."""

        def ask() -> None:
            for cache in ("off", tmp_path / "c"):
                process_token_cache().clear()
                ManagedIdentityCredential(cache=cache).get_token(SCOPE)

        ask()  # what a first token loads may make loggers
        with logging._lock:  # type: ignore[attr-defined]
            other = threading.Thread(target=ask, daemon=True)
            other.start()
            other.join(10)
            assert not other.is_alive()
        assert len(imds_emulator.token_requests) == 3


class TestHooks:
    def test_each_fetch_is_told_with_what_came_of_it(self, imds_emulator: Emulator) -> None:
        events: list[Event] = []
        credential = ManagedIdentityCredential(on_event=events.append, cache="off")
        credential.get_token(SCOPE)
        eventually(lambda: len(events) == 1)
        make_due(credential)
        credential.get_token(SCOPE)
        eventually(lambda: len(events) == 2)
        imds_emulator.fault(status=403, times=2)
        make_due(credential)
        credential.get_token(SCOPE)
        eventually(lambda: len(events) == 3)
        clear_cache()
        with pytest.raises(ManagedIdentityError):
            credential.get_token(SCOPE)
        eventually(lambda: len(events) == 4)
        assert [(event.name, event.source, event.outcome) for event in events] == [
            ("fetch", "imds", "fetched"),
            ("refresh", "imds", "fetched"),
            ("failure", "imds", "refused"),
            ("failure", "imds", "refused"),
        ]
        assert all(0 < event.seconds < 60 for event in events)
        assert [event.remaining > 3600 for event in events] == [True, True, True, False]
        assert events[3].remaining == 0

    def test_a_token_of_another_process_is_told_as_such(
        self, imds_emulator: Emulator, tmp_path: Path
    ) -> None:
        events: list[Event] = []
        ManagedIdentityCredential(cache=tmp_path / "c").get_token(SCOPE)
        machine = ManagedIdentityCredential(cache=tmp_path / "c")._client.shared_cache
        assert machine is not None
        credential = ManagedIdentityCredential(cache=tmp_path / "c", on_event=events.append)
        entry = credential._client.entry("https://vault.azure.net")
        process_token_cache().clear()
        entry.version = machine.version(
            entry.key
        )  # the other's token comes after this was looked at
        credential.get_token(SCOPE)
        [event] = eventually(lambda: list(events))
        assert (event.name, event.outcome) == ("fetch", "shared")
        assert len(imds_emulator.token_requests) == 1

    def test_a_hook_that_raises_harms_nothing(
        self, imds_emulator: Emulator, caplog: pytest.LogCaptureFixture
    ) -> None:
        def hook(event: Event) -> None:
            raise RuntimeError("of the hook")

        credential = ManagedIdentityCredential(on_event=hook)
        assert credential.get_token(SCOPE).token
        eventually(lambda: "on_event hook raised" in caplog.text)
        assert credential.get_token(SCOPE).token

    def test_a_hook_that_hangs_holds_up_nobody(self, imds_emulator: Emulator) -> None:
        called, go = threading.Event(), threading.Event()

        def hook(event: Event) -> None:
            called.set()
            go.wait(30)

        credential = ManagedIdentityCredential(on_event=hook)
        try:
            first = credential.get_token(SCOPE).token
            assert called.wait(10)
            assert credential.get_token(SCOPE).token == first
            clear_cache()
            assert credential.get_token(SCOPE).token
        finally:
            go.set()

    def test_a_hook_may_use_the_credential_itself(self, imds_emulator: Emulator) -> None:
        tokens: list[str] = []
        credential = ManagedIdentityCredential(
            on_event=lambda _: tokens.append(credential.get_token(SCOPE).token)
        )
        token = credential.get_token(SCOPE).token
        assert eventually(lambda: tokens) == [token]

    async def _by_aio(self, events: list[Event]) -> None:
        async with imds_identity.aio.ManagedIdentityCredential(on_event=events.append) as one:
            await one.get_token(SCOPE)

    def test_the_async_credential_has_them_as_well(self, imds_emulator: Emulator) -> None:
        import asyncio

        events: list[Event] = []
        asyncio.run(self._by_aio(events))
        assert eventually(lambda: list(events))[0].name == "fetch"
