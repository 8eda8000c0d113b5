"""`Emulator`, the Python interface of the emulator."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

from ._field_types import build
from ._option import with_options_of
from ._profiles.profiles import is_token_path
from ._services.entra import JWKS_PATH, configuration_path
from ._settings import Settings
from ._state.events import EventSpec
from ._state.fault import Fault
from ._state.tokens import issuer_url
from ._state_builder import build_state

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typing_extensions import Self

    from ._machine.identities import Identity
    from ._machine.machine import Machine
    from ._running import KeyVault, RunningEmulator
    from ._settings import Profile
    from ._state.events import ScheduledEvent
    from ._state.request_log import RecordedRequest
    from ._state.tokens import IssuedToken


class Emulator:
    """A server that emulates the services a managed-identity client uses on its machine.

    It serves from a thread between `start` and `stop`, or within a ``with`` block. The options in
    the table of docs/emulator.md are its parameters; all but ``profile`` are keyword arguments.

    Raises:
        ValueError: if an option is not valid; the message names it.
    """

    @with_options_of(Settings)
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._state = build_state(settings)
        self._running: RunningEmulator | None = None

    def start(self) -> Self:
        """Start to serve.

        Returns:
            The emulator itself.

        Raises:
            OSError: if a port or directory is not available.
            RuntimeError: if it is already running.
        """
        if self._running is not None:
            raise RuntimeError("This emulator is already running.")
        self._state.keys.prepare()
        # Generate the key while the HTTP library is imported: both are slow.
        key = threading.Thread(target=self._generate_key)
        key.start()
        from ._running import RunningEmulator

        key.join()
        self._state.tokens.key()
        self._state.begin()
        self._running = RunningEmulator(self._settings, self._state)
        return self

    def _generate_key(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # start() raises them again
            self._state.tokens.key()

    def stop(self) -> None:
        """Stop serving and remove temporary files; does nothing when it is not running."""
        running, self._running = self._running, None
        if running is not None:
            running.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        where = self._running.endpoint if self._running is not None else "stopped"
        return f"<Emulator {self.profile} {where}>"

    @property
    def profile(self) -> Profile:
        """The kind of host that it emulates."""
        return self._settings.profile

    @property
    def machine(self) -> Machine:
        """The emulated machine."""
        return self._state.machine

    @property
    def identities(self) -> tuple[Identity, ...]:
        """The machine's managed identities."""
        return self._state.identities

    @property
    def endpoint(self) -> str:
        """The URL of the token and metadata endpoint, without a path."""
        return self._require_running().endpoint

    @property
    def tokens_directory(self) -> Path | None:
        """The directory of Arc's key files; None for other profiles."""
        keys = self._require_running().keys
        return keys.directory if keys is not None else None

    @property
    def has_key_vault(self) -> bool:
        """Whether it serves a Key Vault."""
        return self._settings.key_vault

    @property
    def key_vault(self) -> KeyVault:
        """The Key Vault.

        Raises:
            RuntimeError: if it has none.
        """
        vault = self._require_running().key_vault
        if vault is None:
            raise RuntimeError("The emulator was created with key_vault=False.")
        return vault

    @property
    def admin_url(self) -> str | None:
        """The URL of the admin page and API; None without an ``admin_port``."""
        return self._require_running().admin_url

    @property
    def issuer(self) -> str:
        """The ``iss`` claim of its tokens."""
        return issuer_url(self._state.machine.tenant_id)

    @property
    def jwks_url(self) -> str:
        """The URL of the public key that verifies its tokens (RFC 7517)."""
        return self.endpoint + JWKS_PATH

    @property
    def openid_configuration_url(self) -> str:
        """The URL of the tenant's OpenID configuration."""
        return self.endpoint + configuration_path(self._state.machine.tenant_id)

    @property
    def attested_root_file(self) -> str:
        """The path of the root certificate of attested documents, in PEM (``vm`` only)."""
        return self._attested_files()[0]

    @property
    def attested_intermediate_file(self) -> str:
        """The path of the intermediate certificate, for clients that do not fetch it by AIA."""
        return self._attested_files()[1]

    @property
    def attested_ca_file(self) -> str:
        """The path of both certificates, for ``ca_file`` and ``attested --ca-file``."""
        return self._attested_files()[2]

    def _attested_files(self) -> tuple[str, str, str]:
        files = self._require_running().attested_files()
        if files is None:
            raise RuntimeError(f"The profile {self.profile} has no attested documents.")
        return files

    def environment(self) -> dict[str, str]:
        """Return the environment variables that direct clients to this emulator."""
        return self._require_running().environment()

    @property
    def requests(self) -> list[RecordedRequest]:
        """The latest requests, oldest first, without secrets."""
        return self._state.recorded_requests()

    @property
    def token_requests(self) -> list[RecordedRequest]:
        """The token requests among `requests`.

        On Arc a token takes two requests: the challenge has status 401, the token 200.
        """
        return [record for record in self.requests if is_token_path(record.path)]

    def on_request(self, listener: Callable[[RecordedRequest], object]) -> None:
        """Call a function with each request from now on.

        Args:
            listener: the function. It runs on the serving thread, so it must not block.
        """
        self._state.on_request(listener)

    @property
    def issued_tokens(self) -> list[IssuedToken]:
        """The latest tokens issued, oldest first; their repr hides the token."""
        return self._state.issued_tokens()

    def revoke_tokens(self) -> None:
        """Revoke all tokens issued so far.

        The Key Vault rejects them from now on with a claims challenge. The token endpoint still
        returns them from its cache, as the real one does, until a request bypasses the cache.
        """
        self._state.revoke_tokens()

    @property
    def faults(self) -> list[tuple[int, Fault]]:
        """The active faults, with their numbers."""
        return self._state.active_faults()

    def fault(self, fault: Fault | None = None, /, **attributes: Any) -> int:
        """Inject a fault. The first active fault that matches a request applies to it.

        Args:
            fault: the fault.
            attributes: the attributes of a `Fault`, in place of ``fault``:
                ``emulator.fault(status=429, retry_after=3, times=2)``.

        Returns:
            Its number, for `clear_faults`.

        Raises:
            ValueError: if an attribute is not valid.
        """
        return self._state.set_fault(fault if fault is not None else build(Fault, attributes))

    def clear_faults(self, number: int | None = None) -> None:
        """Remove faults.

        Args:
            number: the number of the fault to remove; by default all are removed.
        """
        self._state.clear_faults(number)

    @property
    def events(self) -> list[ScheduledEvent]:
        """The events that are scheduled or started."""
        return self._state.current_events()

    def schedule_event(self, event_type: str = "Reboot", **details: Any) -> str:
        """Schedule an event.

        Args:
            event_type: ``Freeze``, ``Reboot``, ``Redeploy``, ``Preempt`` or ``Terminate``.
            details: ``notice`` (seconds until it starts), ``runs`` (seconds until it is over),
                ``resources`` (names of machines), ``description``, ``source`` (``Platform`` or
                ``User``) and ``duration`` (the announced duration in seconds).

        Returns:
            Its EventId.

        Raises:
            ValueError: if an argument is not valid.
        """
        details["event_type"] = event_type
        return self._state.schedule_event(build(EventSpec, details))

    def cancel_event(self, event_id: str) -> None:
        """Cancel a scheduled event.

        Args:
            event_id: its EventId.

        Raises:
            LookupError: if there is no event with this id.
        """
        self._state.cancel_event(event_id)

    def advance_clock(self, seconds: float) -> None:
        """Move the emulator's time: everything that expires, starts or is limited follows.

        Args:
            seconds: how far; a negative number moves the time back.

        Raises:
            ValueError: if the time would be before 1970 or after 8999.
        """
        self._state.advance_clock(seconds)

    def reset(self) -> None:
        """Forget all requests and tokens, and return to the state of the start.

        The clock, identities, secrets, faults, events and settings are those of the constructor.
        """
        self._state.reset()

    def _require_running(self) -> RunningEmulator:
        if self._running is None:
            raise RuntimeError("The emulator is not running: call start() or use `with`.")
        return self._running
