"""Log handlers that use the credential, and which code runs under the token cache's lock."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from imds_identity import ManagedIdentityCredential
from imds_identity._shared_cache.directory import Directory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from imds_identity.emulator import Emulator

SCOPE = "https://vault.azure.net/.default"


class SendingHandler(logging.Handler):
    """A handler that requests a token for each record while it holds its own lock."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(logging.DEBUG)
        self.credential = ManagedIdentityCredential(**settings)
        self.tokens: list[str] = []
        self._busy = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        if not getattr(self._busy, "now", False):
            self._busy.now = True
            try:
                self.tokens.append(self.credential.get_token(SCOPE).token)
            finally:
                self._busy.now = False


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger()
    level, handlers = logger.level, list(logger.handlers)
    logger.setLevel(logging.DEBUG)
    yield logger
    logger.setLevel(level)
    for handler in set(logger.handlers) - set(handlers):
        logger.removeHandler(handler)


def run_with_timeout(work: Any) -> None:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive(), "the call hangs"


def test_handler_of_the_root_logger_gets_its_token(
    imds_emulator: Emulator, tmp_path: Path, root_logger: logging.Logger
) -> None:
    handler = SendingHandler(cache=tmp_path / "cache")
    root_logger.addHandler(handler)
    run_with_timeout(lambda: logging.getLogger("app").info("a line"))
    assert handler.tokens


def test_handler_gets_its_token_while_the_fetch_logs_a_warning(
    imds_emulator: Emulator,
    tmp_path: Path,
    root_logger: logging.Logger,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def raise_disk_full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Directory, "write", raise_disk_full)
    handler = SendingHandler(cache=tmp_path / "cache")
    root_logger.addHandler(handler)
    run_with_timeout(lambda: logging.getLogger("app").info("a line"))
    assert len(handler.tokens) >= 1


AUDIT_SCRIPT = """
import logging, os, sys
from imds_identity import ManagedIdentityCredential, ManagedIdentityError, clear_cache
from imds_identity._token_cache.process import process_token_cache

token_cache, calls_under_lock, events = process_token_cache(), [], set()

def audit(event, arguments):
    events.add(event)
    if token_cache._lock._locks[os.getpid()]._is_owned():
        calls_under_lock.append((event, arguments))

class Handler(logging.Handler):
    def emit(self, record):
        audit("logging", record.msg)

logging.getLogger("imds_identity").addHandler(Handler())
sys.addaudithook(audit)
hooked = ManagedIdentityCredential(raw_request_hook=lambda _: audit("hook", ()))
for credential in (ManagedIdentityCredential(), hooked):
    for claims in (None, '{"access_token": {"nbf": {"value": "1"}}}', "x"):
        credential.get_token("https://vault.azure.net", claims=claims)
    credential._entries["https://vault.azure.net"].hit_until = 0
    credential.get_token("https://vault.azure.net")
    clear_cache()
try:
    ManagedIdentityCredential(client_id="nobody").get_token("https://vault.azure.net")
except ManagedIdentityError:
    pass
assert events >= {"open", "import", "hook", "socket.connect"}, events
print(calls_under_lock)
"""


def test_no_io_import_or_callback_runs_under_the_token_cache_lock(
    imds_emulator: Emulator, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", AUDIT_SCRIPT],
        env={
            **os.environ, **imds_emulator.environment(), "IMDS_IDENTITY_CACHE": str(tmp_path / "c")
        },
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "[]", done.stderr


def test_clear_cache_in_a_new_process_clears_the_shared_cache(
    imds_emulator: Emulator, tmp_path: Path
) -> None:
    environment = {
        **os.environ, **imds_emulator.environment(), "IMDS_IDENTITY_CACHE": str(tmp_path / "c")
    }  # fmt: skip
    get_token = f"imds_identity.ManagedIdentityCredential().get_token({SCOPE!r})"
    for number, statement in (
        (1, get_token),
        (1, get_token),
        (1, "imds_identity.clear_cache()"),
        (2, get_token),
    ):
        subprocess.run(
            [sys.executable, "-c", f"import imds_identity; {statement}"],
            env=environment,
            check=True,
        )
        assert len(imds_emulator.token_requests) == number
