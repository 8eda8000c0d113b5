"""The emulator as code uses it: started, configured, asked what it saw, stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._admin.api import Admin
from ._clock import SystemClock
from ._http.certificates import pem
from ._running import Running
from ._services.app_service import PATH as APP_SERVICE_PATH
from ._services.openid import JWKS_PATH, configuration_path
from ._services.scheduled_events import Events
from ._services.token import FORM_TOKEN_PATH, TOKEN_PATH
from ._settings import DEFAULT_SECRETS, ArcAgent, Profile, Settings, check_positive
from ._world.faults import Fault, Faults
from ._world.identities import DEFAULT_IDENTITIES, checked_identities
from ._world.limits import Limits
from ._world.machine import Machine
from ._world.records import RequestLog
from ._world.tokens import TokenService, issuer_of, signing_key
from ._world.versions import NEWEST_ON_STACK_HUB, supported_versions
from ._world.world import World

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

    from ._clock import Clock
    from ._running import KeyVault
    from ._services.scheduled_events import ScheduledEvent
    from ._world.identities import Identity
    from ._world.records import RecordedRequest
    from ._world.tokens import IssuedToken

_LIMITED_LATENCY = 0.01
_VM_TYPE = "Microsoft.Compute/virtualMachines"
_ARC_TYPE = "Microsoft.HybridCompute/machines"


class Emulator:
    """A real server that speaks what managed-identity clients expect of their machine.

    It serves from a thread of its own between `start` and `stop`, or within a ``with`` block.

    Args:
        profile: The kind of host: ``vm``, ``arc``, ``stack-hub`` or ``app-service``.
        host: The address to listen on.
        port: The port of the token and metadata endpoint; 0 chooses a free one.
        allow_remote: Required to be true where ``host`` is no loopback address, because whoever
            reaches the emulator gets its tokens.
        machine: What the machine is.
        identities: Its managed identities; by default a system-assigned and a user-assigned one.
        token_lifetime: Seconds that a token lives.
        limits: Whether the limits per VM hold: 20 identity requests in a second and 5 at once,
            5 requests in a second elsewhere.
        latency: Seconds that an identity answer takes; by default 0.01 with limits, so that
            requests overlap at all, else 0.
        tokens_directory: Where Arc's key files go; by default a private temporary directory.
        arc_agent: ``current`` echoes the selector, ``older`` ignores it.
        arc_secret_lifetime: Seconds that an Arc secret holds.
        identity_header: App Service's ``IDENTITY_HEADER``; a random one by default.
        newest_version: The newest api-version that the region knows; by default every one.
        key_vault: Whether to serve a Key Vault beside the machine.
        key_vault_port: Its port; 0 chooses a free one.
        secrets: Its secrets.
        admin_port: The port of the admin page and API, on 127.0.0.1 whatever ``host`` says; 0
            chooses a free one, None serves neither.
        faults: Faults set from the start.
        events: Events announced at every start, each as the arguments of `schedule_event`.
        seed: Makes random faults repeat themselves.
        clock: Tells the time for whatever expires, runs or is limited.
        events_clock: Tells scheduled events the time, so that they may run faster than tokens age.
        log_size: How many requests are remembered.

    Raises:
        ValueError: An argument makes no sense; the message says which.
    """

    def __init__(
        self,
        profile: Profile = "vm",
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        allow_remote: bool = False,
        machine: Machine | None = None,
        identities: Iterable[Identity] = DEFAULT_IDENTITIES,
        token_lifetime: int = 86400,
        limits: bool = False,
        latency: float | None = None,
        tokens_directory: str | os.PathLike[str] | None = None,
        arc_agent: ArcAgent = "current",
        arc_secret_lifetime: float = 60.0,
        identity_header: str | None = None,
        newest_version: str | None = None,
        key_vault: bool = True,
        key_vault_port: int = 0,
        admin_port: int | None = None,
        secrets: Mapping[str, str] = DEFAULT_SECRETS,
        faults: Iterable[Fault] = (),
        events: Iterable[Mapping[str, Any]] = (),
        seed: int | None = None,
        clock: Clock | None = None,
        events_clock: Clock | None = None,
        log_size: int = 5000,
    ) -> None:
        self._settings = Settings(
            profile=profile,
            host=host,
            port=port,
            allow_remote=allow_remote,
            tokens_directory=tokens_directory,
            arc_agent=arc_agent,
            arc_secret_lifetime=arc_secret_lifetime,
            identity_header=identity_header,
            key_vault=key_vault,
            key_vault_port=key_vault_port,
            admin_port=admin_port,
        )
        check_positive("token_lifetime", token_lifetime)
        check_positive("log_size", log_size)
        if latency is not None and latency < 0:
            raise ValueError(f"latency cannot be negative; {latency} is.")
        self._first_faults = tuple(faults)
        self._first_events = tuple(events)
        self._secrets = dict(secrets)
        self._running: Running | None = None
        if newest_version is None and profile == "stack-hub":
            newest_version = NEWEST_ON_STACK_HUB
        if latency is None:
            latency = _LIMITED_LATENCY if limits else 0.0
        clock = clock or SystemClock()
        machine = machine or Machine()
        self._world = World(
            clock=clock,
            machine=machine,
            resource_id=machine.resource_id(_ARC_TYPE if profile == "arc" else _VM_TYPE),
            identities=checked_identities(identities),
            versions=supported_versions(newest_version),
            tokens=TokenService(clock, token_lifetime, signing_key()),
            faults=Faults(clock, seed),
            limits=Limits(clock, enabled=limits),
            events=Events(events_clock or clock, machine.name),
            log=RequestLog(log_size),
            latency=latency,
        )
        self._set_first_faults()

    # Life.

    def start(self) -> Self:
        """Begins to serve.

        Returns:
            Itself.

        Raises:
            OSError: A port cannot be had.
            RuntimeError: It is running already.
        """
        if self._running is not None:
            raise RuntimeError("This emulator is running already.")
        self._set_first_events()
        self._running = Running(self._settings, self._world, self._secrets, Admin(self))
        return self

    def stop(self) -> None:
        """Stops serving and leaves nothing behind; harmless when it is not running."""
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

    # Where it is.

    @property
    def profile(self) -> Profile:
        """The kind of host."""
        return self._settings.profile

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
    def key_vault(self) -> KeyVault:
        """The Key Vault beside the machine."""
        vault = self._alive().key_vault
        if vault is None:
            raise RuntimeError("This emulator has no Key Vault: it was made with key_vault=False.")
        return vault

    @property
    def has_key_vault(self) -> bool:
        """Whether there is a Key Vault beside the machine."""
        return self._settings.key_vault

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
    def machine(self) -> Machine:
        """What the machine is."""
        return self._world.machine

    @property
    def identities(self) -> tuple[Identity, ...]:
        """The machine's managed identities."""
        return self._world.identities

    def environment(self) -> dict[str, str]:
        """Returns the environment variables that lead a client to this emulator."""
        return self._environment(self.endpoint)

    def planned_endpoint(self) -> str:
        """Returns the URL it will serve on, or serves on.

        Raises:
            ValueError: Its port is not fixed, so that nobody can know.
        """
        if self._running is not None:
            return self.endpoint
        if self._settings.port == 0:
            raise ValueError("The port is not fixed: give one other than 0.")
        return self._settings.url("http", self._settings.port)

    def planned_environment(self) -> dict[str, str]:
        """Returns what `environment` will say once it serves.

        Raises:
            ValueError: Its port, or App Service's identity header, is not fixed.
        """
        if self.profile == "app-service" and self._settings.identity_header is None:
            raise ValueError("The identity header is random: give one to know it beforehand.")
        return self._environment(self.planned_endpoint())

    def _environment(self, endpoint: str) -> dict[str, str]:
        if self.profile == "arc":
            return {"IDENTITY_ENDPOINT": endpoint + TOKEN_PATH, "IMDS_ENDPOINT": endpoint}
        if self.profile == "app-service":
            return {
                "IDENTITY_ENDPOINT": endpoint + APP_SERVICE_PATH,
                "IDENTITY_HEADER": self._settings.secret_header,
            }
        return {"AZURE_POD_IDENTITY_AUTHORITY_HOST": endpoint}

    # What it saw.

    @property
    def requests(self) -> list[RecordedRequest]:
        """The latest requests, oldest first, without their secrets."""
        with self._world.lock:
            return self._world.log.snapshot()

    @property
    def token_requests(self) -> list[RecordedRequest]:
        """Those of `requests` that asked for a token.

        On Arc each leg is one of them: the challenge has status 401, the token 200.
        """
        paths = (TOKEN_PATH, FORM_TOKEN_PATH, APP_SERVICE_PATH)
        return [record for record in self.requests if record.path in paths]

    def on_request(self, listener: Callable[[RecordedRequest], object]) -> None:
        """Calls a function with each request from now on.

        Args:
            listener: The function; called on the serving thread, so it must be quick.
        """
        with self._world.lock:
            self._world.log.listeners.append(listener)

    def reset(self) -> None:
        """Forgets requests, tokens, events, and all faults but those given to the constructor."""
        with self._world.lock:
            self._world.log.clear()
            self._world.tokens.forget()
            self._world.limits.forget()
            self._world.events.clear()
            self._world.faults.restart()
            self._set_first_faults()
            self._set_first_events()

    # What goes wrong.

    def fault(self, fault: Fault | None = None, /, **attributes: Any) -> int:
        """Sets a fault, behind those already set; the first that matches a request applies.

        Args:
            fault: The fault, or else
            attributes: the attributes of one, as `Fault` describes them:
                ``emulator.fault(status=429, retry_after=3, times=2)``.

        Returns:
            Its number, for `clear_faults`.

        Raises:
            ValueError: The fault makes no sense.
        """
        with self._world.lock:
            return self._world.faults.add(fault if fault is not None else Fault(**attributes))

    def clear_faults(self, number: int | None = None) -> None:
        """Lifts faults.

        Args:
            number: The one to lift; all of them when left out.
        """
        with self._world.lock:
            self._world.faults.clear(number)

    @property
    def faults(self) -> list[tuple[int, Fault]]:
        """The faults that are set, with their numbers."""
        with self._world.lock:
            return self._world.faults.active()

    @property
    def issued_tokens(self) -> list[IssuedToken]:
        """The latest tokens issued, oldest first; their repr hides the token."""
        with self._world.lock:
            return list(self._world.tokens.issued)

    def revoke_tokens(self) -> None:
        """Revokes every token issued so far.

        The Key Vault refuses them from now on with a claims challenge. The token endpoint keeps
        them in its cache, as the real one does, until a request bypasses it.
        """
        with self._world.lock:
            self._world.tokens.revoke()

    # What happens to the machine.

    def schedule_event(self, event_type: str = "Reboot", **details: Any) -> str:
        """Announces a scheduled event.

        Args:
            event_type: ``Freeze``, ``Reboot``, ``Redeploy``, ``Preempt`` or ``Terminate``.
            details: ``notice`` in seconds, ``runs`` in seconds, ``resources``, ``description``,
                ``source`` (``Platform`` or ``User``) and ``duration`` in seconds.

        Returns:
            Its EventId.

        Raises:
            ValueError: An argument makes no sense.
        """
        with self._world.lock:
            return self._world.events.schedule(event_type, **details)

    def cancel_event(self, event_id: str) -> None:
        """Takes a scheduled event back.

        Raises:
            LookupError: It is not there.
        """
        with self._world.lock:
            self._world.events.cancel(event_id)

    @property
    def events(self) -> list[ScheduledEvent]:
        """The events that are announced or under way."""
        with self._world.lock:
            return self._world.events.current()

    @property
    def attested_root_file(self) -> str:
        """The root certificate to trust for attested documents, a PEM file (``vm`` only)."""
        running = self._alive()
        if running.attested is None:
            raise RuntimeError(f"The profile {self.profile} has no attested documents.")
        with self._world.lock:
            path = running.directory() / "attested-root.pem"
            path.write_bytes(pem(running.attested.signer.root))
            return str(path)

    # How it is put together.

    def _alive(self) -> Running:
        if self._running is None:
            raise RuntimeError("This emulator is not running: start() it, or use it in a with.")
        return self._running

    def _set_first_faults(self) -> None:
        for fault in self._first_faults:
            self._world.faults.add(fault)

    def _set_first_events(self) -> None:
        with self._world.lock:
            self._world.events.clear()
            for event in self._first_events:
                self._world.events.schedule(**event)
