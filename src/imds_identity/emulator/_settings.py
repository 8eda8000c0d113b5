"""The emulator's options, each spelled once.

`Emulator`'s parameters, the command's flags, the keys of its file and the table in
docs/emulator.md are all made from the fields below.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Concatenate, Literal, NamedTuple, ParamSpec, TypeVar, get_args

from ._addresses import EVERY_ADDRESS, check_host, check_name, check_port, url
from ._clock import Clock
from ._kinds import check_fields
from ._machine.identities import DEFAULT_IDENTITIES, Identity, checked_identities
from ._machine.machine import Machine
from ._machine.versions import supported_versions
from ._state.events import Announcement
from ._state.fault import Fault

_P = ParamSpec("_P")
_S = TypeVar("_S")
Profile = Literal["vm", "arc", "stack-hub", "app-service"]
ArcAgent = Literal["current", "older"]
DEFAULT_SECRETS: Mapping[str, str] = {"greeting": "Hello from the emulated vault"}
UNCHANGED: Any = object()
_LISTED: Mapping[str, Any] = {
    "allowed_hosts": str,
    "events": Mapping,
    "faults": Fault,
    "identities": Identity,
    "resources": str,
}


class Option(NamedTuple):
    """What is to be known of an option beside its name, type and default.

    Attributes:
        help: what it is, as a noun phrase.
        unit: what its flag takes.
        flag: where it does not follow from the name; none where empty.
        switch: a second flag, which takes no value, and what that does.
        key: its key in the file, where that is not its name; none where empty.
        command: the command's default, where it differs.
    """

    help: str
    unit: str = ""
    flag: str | None = None
    switch: tuple[str, str] = ("", "")
    key: str | None = None
    command: Any = UNCHANGED


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How one emulator is to be served: checked once, then only read.

    Raises:
        ValueError: if a value makes no sense; the message names the option.
    """

    profile: Annotated[Profile, Option("the kind of host")] = field(default="vm", kw_only=False)
    host: Annotated[str, Option("the address to listen on", "ADDRESS")] = "127.0.0.1"
    port: Annotated[
        int, Option("the port of the token and metadata endpoint; 0 is any", command=16925)
    ] = 0
    allow_remote: Annotated[
        bool,
        Option(
            "whether the host may be an address that other machines reach; whoever reaches the "
            "emulator gets its tokens"
        ),
    ] = False
    allowed_hosts: Annotated[
        Iterable[str],
        Option(
            "names that requests may name as their Host, beside addresses and localhost, such as "
            "that of a container",
            "NAME",
            flag="--allow-host",
        ),
    ] = ()
    machine: Annotated[
        Machine | None,
        Option(
            "what the machine is, such as name=web,os_type=Windows; a small Linux VM by default",
            "ATTRIBUTE=VALUE[,...]",
            flag="--machine",
            switch=("--no-load-balancer", "put the machine behind no load balancer"),
        ),
    ] = None
    identities: Annotated[
        Iterable[Identity],
        Option(
            "its managed identities, by name or in full; by default a system-assigned and a "
            "user-assigned one",
            "NAME",
            flag="--user-assigned",
            switch=("--no-system-assigned", "give the machine no system-assigned identity"),
            key="identity",
        ),
    ] = DEFAULT_IDENTITIES
    resources: Annotated[
        Iterable[str],
        Option(
            "resources that tokens may be had for, beside those that Entra knows in every tenant, "
            "such as api://mine or https://*.example; * is any",
            "URI",
            flag="--resource",
            key="resources",
        ),
    ] = ()
    token_lifetime: Annotated[int, Option("seconds that a token lives", "SECONDS")] = 86400
    limits: Annotated[
        bool,
        Option(
            "whether the limits per VM hold: 20 identity requests in a second and 5 at once, "
            "5 requests in a second elsewhere",
            command=True,
        ),
    ] = False
    latency: Annotated[
        float | None,
        Option(
            "seconds that an identity answer takes; by default 0.01 with limits, so that requests "
            "overlap at all, else 0",
            "SECONDS",
        ),
    ] = None
    tokens_directory: Annotated[
        str | os.PathLike[str] | None,
        Option("where Arc's key files go; by default a private temporary directory", "DIR"),
    ] = None
    arc_agent: Annotated[
        ArcAgent,
        Option("a current agent echoes the identity asked for, an older one ignores it"),
    ] = "current"
    arc_secret_lifetime: Annotated[float, Option("seconds that an Arc secret holds", "SECONDS")] = (
        60.0
    )
    identity_header: Annotated[
        str | None, Option("App Service's IDENTITY_HEADER; a random one by default", "SECRET")
    ] = field(default=None, repr=False)
    newest_version: Annotated[
        str | None,
        Option("the newest api-version that the region knows; by default every one", "VERSION"),
    ] = None
    key_vault: Annotated[
        bool, Option("whether there is a Key Vault beside the machine", key="key_vault.enabled")
    ] = True
    key_vault_port: Annotated[
        int, Option("its https port; 0 is any", key="key_vault.port", command=16926)
    ] = 0
    secrets: Annotated[
        Mapping[str, str],
        Option("its secrets, names and values", flag="", key="key_vault.secrets"),
    ] = field(default_factory=lambda: dict(DEFAULT_SECRETS), repr=False)
    admin_port: Annotated[
        int | None,
        Option(
            "the port of the admin page and API; 0 is any, none serves neither",
            switch=("--no-admin", "serve neither page nor API"),
            command=16927,
        ),
    ] = None
    admin_host: Annotated[str, Option("the address that page and API listen on", "ADDRESS")] = (
        "127.0.0.1"
    )
    state: Annotated[
        str | os.PathLike[str] | None,
        Option(
            "where keys and certificates are kept across restarts; by default they are new at "
            "every start",
            "DIR",
        ),
    ] = None
    faults: Annotated[
        Iterable[Fault],
        Option(
            "faults set from the start, such as status=429,retry_after=2,times=3",
            "ATTRIBUTE=VALUE[,...]",
            flag="--fault",
            key="fault",
        ),
    ] = ()
    events: Annotated[
        Iterable[Mapping[str, Any]],
        Option(
            "events announced at every start, such as Reboot,notice=60",
            "TYPE[,ATTRIBUTE=VALUE...]",
            flag="--event",
            key="event",
        ),
    ] = ()
    record: Annotated[
        str | os.PathLike[str] | None,
        Option("a file to which every request is written, for replay", "FILE"),
    ] = None
    replay: Annotated[
        str | os.PathLike[str] | None,
        Option("a recorded file, whose failures happen again at the same requests", "FILE"),
    ] = None
    seed: Annotated[int | None, Option("makes random faults repeat themselves", "NUMBER")] = None
    clock: Annotated[
        Clock | None,
        Option("the time for whatever expires, runs or is limited", flag="", key=""),
    ] = None
    events_clock: Annotated[
        Clock | None,
        Option(
            "the time for scheduled events; as a flag and in the file, how much faster than real "
            "time they run",
            "FACTOR",
            flag="--events-speed",
            key="events_speed",
        ),
    ] = None
    log_size: Annotated[int, Option("how many requests are remembered", "NUMBER")] = 5000

    def __post_init__(self) -> None:
        """Check every value."""
        check_fields(self)
        _check_choice("profile", self.profile, get_args(Profile))
        _check_choice("arc_agent", self.arc_agent, get_args(ArcAgent))
        for name in ("host", "admin_host"):
            check_host(name, getattr(self, name), allow_remote=self.allow_remote)
        for name in ("port", "key_vault_port", "admin_port"):
            check_port(name, getattr(self, name))
        for name in ("token_lifetime", "arc_secret_lifetime", "log_size"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above zero, not {getattr(self, name)}.")
        if self.latency is not None and self.latency < 0:
            raise ValueError(f"latency cannot be negative; {self.latency} is.")
        supported_versions(self.newest_version)
        self._check_lists()

    def _check_lists(self) -> None:
        # Iterables may be generators, which can be read only once.
        for name, kind in _LISTED.items():
            items = tuple(getattr(self, name))
            for item in items:
                if not isinstance(item, kind):
                    raise ValueError(  # noqa: TRY004 - a bad value, like every other here
                        f"{name} cannot hold {item!r}."
                    )
            object.__setattr__(self, name, items)
        checked_identities(self.identities)
        for name in self.allowed_hosts:
            check_name("allowed_hosts", name)
        for event in self.events:
            Announcement(**event)

    def url(self, scheme: str, port: int) -> str:
        """The URL of a port on the host, by the first name allowed if it is on every address."""
        if self.host in EVERY_ADDRESS and self.allowed_hosts:
            return url(scheme, next(iter(self.allowed_hosts)), port)
        return url(scheme, self.host, port)


def with_options_of(
    settings: Callable[_P, Settings],
) -> Callable[[Callable[[_S, Settings], None]], Callable[Concatenate[_S, _P], None]]:
    """Give a constructor that takes settings the parameters that settings are made of."""

    def decorate(
        construct: Callable[[_S, Settings], None],
    ) -> Callable[Concatenate[_S, _P], None]:
        @functools.wraps(construct)
        def constructor(this: _S, /, *args: _P.args, **kwargs: _P.kwargs) -> None:
            construct(this, settings(*args, **kwargs))

        own = list(inspect.signature(construct).parameters.values())[:1]
        options = list(inspect.signature(settings).parameters.values())
        constructor.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]
        return constructor

    return decorate


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}.")
