"""The emulator as code uses it: started, configured, asked what it saw, stopped."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

from ._assembly import world_of
from ._profiles.profiles import TOKEN_PATHS, environment
from ._services.openid import JWKS_PATH, configuration_path
from ._settings import Settings, with_options_of
from ._state.events import Announcement
from ._state.fault import Fault
from ._state.tokens import issuer_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

    from ._machine.identities import Identity
    from ._machine.machine import Machine
    from ._running import KeyVault, Running
    from ._settings import Profile
    from ._state.events import ScheduledEvent
    from ._state.records import RecordedRequest
    from ._state.tokens import IssuedToken


class Emulator:
    """A real server that speaks what managed-identity clients expect of their machine.

    It serves from a thread of its own between `start` and `stop`, or within a ``with`` block. Its
    parameters are the options in the table of docs/emulator.md: ``profile`` first, the others by
    name.

    Raises:
        ValueError: if an option makes no sense; the message says which.
    """

    @with_options_of(Settings)
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._world = world_of(settings)
        self._running: Running | None = None

    def start(self) -> Self:
        """Begin to serve.

        Returns:
            The emulator itself.

        Raises:
            OSError: if a port or a directory cannot be had.
            RuntimeError: if it is running already.
        """
        if self._running is not None:
            raise RuntimeError("This emulator is running already.")
        self._world.keys.prepare()
        # The key is made while the HTTP library is imported: each takes most of a start.
        key = threading.Thread(target=self._make_key)
        key.start()
        from ._running import Running

        key.join()
        self._world.tokens.key()
        self._world.begin()
        self._running = Running(self._settings, self._world)
        return self

    def _make_key(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # start() meets them again and raises them
            self._world.tokens.key()

    def stop(self) -> None:
        """Stop serving and leave nothing behind; harmless when it is not running."""
        running, self._running = self._running, None
        if running is not None:
            running.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        where = self._running.endpoint if self._running is not None else "stopped"
        return f"<Emulator {self.profile} {where}>"

    @property
    def profile(self) -> Profile:
        """The kind of host."""
        return self._settings.profile

    @property
    def machine(self) -> Machine:
        """What the machine is."""
        return self._world.machine

    @property
    def identities(self) -> tuple[Identity, ...]:
        """The machine's managed identities."""
        return self._world.identities

    @property
    def endpoint(self) -> str:
        """The URL of the token and metadata endpoint, without a path."""
        return self._alive().endpoint

    @property
    def tokens_directory(self) -> Path | None:
        """Where Arc's key files lie; None for any other profile."""
        keys = self._alive().keys
        return keys.directory if keys is not None else None

    @property
    def has_key_vault(self) -> bool:
        """Whether there is a Key Vault beside the machine."""
        return self._settings.key_vault

    @property
    def key_vault(self) -> KeyVault:
        """The Key Vault beside the machine."""
        vault = self._alive().key_vault
        if vault is None:
            raise RuntimeError("This emulator has no Key Vault: it was made with key_vault=False.")
        return vault

    @property
    def admin_url(self) -> str | None:
        """Where the admin page and API are; None without an ``admin_port``."""
        return self._alive().admin_url

    @property
    def issuer(self) -> str:
        """The ``iss`` claim of its tokens."""
        return issuer_of(self._world.machine.tenant_id)

    @property
    def jwks_url(self) -> str:
        """Where the public key of its tokens is served (RFC 7517)."""
        return self.endpoint + JWKS_PATH

    @property
    def openid_configuration_url(self) -> str:
        """Where the tenant's OpenID configuration is served."""
        return self.endpoint + configuration_path(self._world.machine.tenant_id)

    @property
    def attested_root_file(self) -> str:
        """The root certificate to trust for attested documents, a PEM file (``vm`` only)."""
        return self._attested_files()[0]

    @property
    def attested_intermediate_file(self) -> str:
        """The certificate between root and signer, a PEM file, for who does not fetch it by AIA."""
        return self._attested_files()[1]

    def _attested_files(self) -> tuple[str, str]:
        files = self._alive().attested_files()
        if files is None:
            raise RuntimeError(f"The profile {self.profile} has no attested documents.")
        return files

    def environment(self) -> dict[str, str]:
        """The environment variables that lead a client to this emulator."""
        return environment(self.profile, self.endpoint, self._world.identity_header)

    @property
    def requests(self) -> list[RecordedRequest]:
        """The latest requests, oldest first, without their secrets."""
        return self._world.recorded_requests()

    @property
    def token_requests(self) -> list[RecordedRequest]:
        """Those of `requests` that asked for a token.

        On Arc each leg is one of them: the challenge has status 401, the token 200.
        """
        return [record for record in self.requests if record.path in TOKEN_PATHS]

    def on_request(self, listener: Callable[[RecordedRequest], object]) -> None:
        """Call a function with each request from now on.

        Args:
            listener: called on the serving thread, so it must be quick.
        """
        self._world.on_request(listener)

    @property
    def issued_tokens(self) -> list[IssuedToken]:
        """The latest tokens issued, oldest first; their repr hides the token."""
        return self._world.issued_tokens()

    def revoke_tokens(self) -> None:
        """Revoke every token issued so far.

        The Key Vault refuses them from now on with a claims challenge. The token endpoint keeps
        them in its cache, as the real one does, until a request bypasses it.
        """
        self._world.revoke_tokens()

    @property
    def faults(self) -> list[tuple[int, Fault]]:
        """The faults that are set, with their numbers."""
        return self._world.active_faults()

    def fault(self, fault: Fault | None = None, /, **attributes: Any) -> int:
        """Set a fault, behind those already set; the first that matches a request applies.

        Args:
            fault: the fault, or else
            attributes: those of `Fault`: ``emulator.fault(status=429, retry_after=3, times=2)``.

        Returns:
            Its number, for `clear_faults`.

        Raises:
            ValueError: if the fault makes no sense.
        """
        return self._world.set_fault(fault if fault is not None else Fault(**attributes))

    def clear_faults(self, number: int | None = None) -> None:
        """Lift faults.

        Args:
            number: the one to lift; all of them when left out.
        """
        self._world.clear_faults(number)

    @property
    def events(self) -> list[ScheduledEvent]:
        """The events that are announced or under way."""
        return self._world.current_events()

    def schedule_event(self, event_type: str = "Reboot", **details: Any) -> str:
        """Announce a scheduled event.

        Args:
            event_type: ``Freeze``, ``Reboot``, ``Redeploy``, ``Preempt`` or ``Terminate``.
            details: ``notice`` in seconds, ``runs`` in seconds, ``resources``, ``description``,
                ``source`` (``Platform`` or ``User``) and ``duration`` in seconds.

        Returns:
            Its EventId.

        Raises:
            ValueError: if an argument makes no sense.
        """
        return self._world.schedule_event(Announcement(event_type, **details))

    def cancel_event(self, event_id: str) -> None:
        """Take a scheduled event back.

        Raises:
            LookupError: if it is not there.
        """
        self._world.cancel_event(event_id)

    def reset(self) -> None:
        """Forget requests, tokens, events, and all faults but those given to the constructor."""
        self._world.reset()

    def _alive(self) -> Running:
        if self._running is None:
            raise RuntimeError("This emulator is not running: start() it, or use it in a with.")
        return self._running
