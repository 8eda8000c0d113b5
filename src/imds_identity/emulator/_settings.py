"""The options of the emulator.

`Emulator`'s parameters, the command's flags, the keys of its file and the table in
docs/emulator.md are all generated from the fields of `Settings`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args

from ._addresses import WILDCARD_ADDRESSES, check_host, check_name, check_port, url
from ._clock import Clock
from ._field_types import validate_fields
from ._machine.identities import (
    DEFAULT_IDENTITIES,
    Application,
    Identity,
    parse_applications,
    validate_identities,
)
from ._machine.machine import Machine
from ._machine.versions import supported_versions
from ._option import Option, check_choice, check_items, check_positive, group_id
from ._state.events import EventSpec
from ._state.fault import Fault

Profile = Literal[
    "vm", "arc", "stack-hub", "app-service", "functions", "container-apps", "azure-ml",
    "cloud-shell", "service-fabric", "aci", "workload-identity", "identity-binding",
]  # fmt: skip
WORKLOADS = ("workload-identity", "identity-binding")  # profiles whose client is a workload
ArcAgent = Literal["current", "older"]
MetadataSecurity = Literal["off", "audit", "deny"]
DEFAULT_SECRETS: Mapping[str, str] = {"greeting": "Hello from the emulated vault"}
_CHOICES = {"profile": Profile, "arc_agent": ArcAgent, "metadata_security": MetadataSecurity}
_ITEM_TYPES: Mapping[str, Any] = {
    "allowed_hosts": str,
    "applications": str,
    "events": Mapping,
    "faults": Fault,
    "identities": Identity,
    "resources": str,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The validated options of one emulator; ValueError names the option that is not valid."""

    profile: Annotated[Profile, Option("the kind of host to emulate")] = field(
        default="vm", kw_only=False
    )
    host: Annotated[str, Option("the address to listen on", "ADDRESS")] = "127.0.0.1"
    port: Annotated[
        int, Option("the port of the token and metadata endpoint; 0 for any", command_default=16925)
    ] = 0
    allow_remote: Annotated[
        bool,
        Option(
            "allow an address that other machines can reach; every client that reaches the "
            "emulator gets its tokens"
        ),
    ] = False
    allowed_hosts: Annotated[
        Iterable[str],
        Option(
            "host names to accept in the Host header, such as that of a container, in addition to "
            "addresses and localhost",
            "NAME",
            flag="--allow-host",
        ),
    ] = ()
    machine: Annotated[
        Machine | None,
        Option(
            "the attributes of the machine, such as name=web,os_type=Windows; by default a small "
            "Linux VM",
            "ATTRIBUTE=VALUE[,...]",
            flag="--machine",
            switch=("--no-load-balancer", "emulate a machine without a load balancer"),
        ),
    ] = None
    identities: Annotated[
        Iterable[Identity],
        Option(
            "the managed identities; by default a system-assigned and a user-assigned one",
            "NAME",
            flag="--user-assigned",
            switch=("--no-system-assigned", "emulate a machine without a system-assigned identity"),
            key="identity",
            flag_help="the name of a user-assigned identity; by default there is one",
        ),
    ] = DEFAULT_IDENTITIES
    applications: Annotated[
        Iterable[str],
        Option(
            "client ids of applications that trust an identity, by default the first user-assigned "
            "one; the https port of the Key Vault serves Entra for them",
            "CLIENT_ID[@TENANT][=IDENTITY]",
            flag="--application",
            key="applications",
        ),
    ] = ()
    resources: Annotated[
        Iterable[str],
        Option(
            "additional resources to issue tokens for, such as api://mine or https://*.example; "
            "* allows every resource",
            "URI",
            flag="--resource",
            key="resources",
        ),
    ] = ()
    token_lifetime: Annotated[int, Option("the lifetime of a token in seconds", "SECONDS")] = 86400
    limits: Annotated[
        bool,
        Option(
            "enforce the rate limits of a VM: 20 identity requests per second and 5 concurrently, "
            "5 other requests per second",
            command_default=True,
        ),
    ] = False
    latency: Annotated[
        float | None,
        Option(
            "the duration of an identity request in seconds; by default 0.01 with limits, so that "
            "requests can be concurrent, and 0 without",
            "SECONDS",
        ),
    ] = None
    tokens_directory: Annotated[
        str | os.PathLike[str] | None,
        Option("the directory of Arc's key files; by default a private temporary one", "DIR"),
    ] = None
    tokens_group: Annotated[
        str | None,
        Option("the group that may read Arc's key files; by default only this user may", "GROUP"),
    ] = None
    arc_agent: Annotated[
        ArcAgent,
        Option(
            "the Arc agent to emulate; an older one ignores the identity that a request selects"
        ),
    ] = "current"
    arc_secret_lifetime: Annotated[
        float, Option("the lifetime of an Arc secret in seconds", "SECONDS")
    ] = 60.0
    identity_header: Annotated[
        str | None, Option("App Service's IDENTITY_HEADER; by default a random one", "SECRET")
    ] = field(default=None, repr=False)
    metadata_security: Annotated[
        MetadataSecurity,
        Option(
            "the Metadata Security Protocol of a VM: with audit, responses have the header of its "
            "agent; with deny, the agent denies every request"
        ),
    ] = "off"
    newest_version: Annotated[
        str | None,
        Option("the newest supported api-version; by default all are supported", "VERSION"),
    ] = None
    key_vault: Annotated[
        bool, Option("serve a Key Vault in addition to the machine", key="key_vault.enabled")
    ] = True
    key_vault_port: Annotated[
        int,
        Option(
            "the https port of the Key Vault; 0 for any",
            key="key_vault.port",
            command_default=16926,
        ),
    ] = 0
    secrets: Annotated[
        Mapping[str, str],
        Option("the secrets of the Key Vault, by name", flag="", key="key_vault.secrets"),
    ] = field(default_factory=lambda: dict(DEFAULT_SECRETS), repr=False)
    admin_port: Annotated[
        int | None,
        Option(
            "the port of the admin page and API; 0 for any. Without a port they are not served",
            switch=("--no-admin", "serve neither the admin page nor its API"),
            command_default=16927,
            flag_help="the port of the admin page and API; 0 for any",
        ),
    ] = None
    admin_host: Annotated[
        str, Option("the address that the admin page and API listen on", "ADDRESS")
    ] = "127.0.0.1"
    state: Annotated[
        str | os.PathLike[str] | None,
        Option(
            "the directory that keeps keys and certificates across restarts; by default they are "
            "new at every start, and the command keeps them in a directory of this user per port",
            "DIR",
        ),
    ] = None
    faults: Annotated[
        Iterable[Fault],
        Option(
            "faults to set at the start, such as status=429,retry_after=2,times=3",
            "ATTRIBUTE=VALUE[,...]",
            flag="--fault",
            key="fault",
        ),
    ] = ()
    events: Annotated[
        Iterable[Mapping[str, Any]],
        Option(
            "events to schedule at every start, such as Reboot,notice=60",
            "TYPE[,ATTRIBUTE=VALUE...]",
            flag="--event",
            key="event",
        ),
    ] = ()
    record: Annotated[
        str | os.PathLike[str] | None,
        Option("a file to record every request in, for replay", "FILE"),
    ] = None
    replay: Annotated[
        str | os.PathLike[str] | None,
        Option("a recorded file whose failures are repeated for the same requests", "FILE"),
    ] = None
    seed: Annotated[
        int | None,
        Option("a seed for reproducible tokens and faults; as secret as a key", "NUMBER"),
    ] = None
    clock: Annotated[
        Clock | None,
        Option(
            "the clock for everything that expires, runs or is limited; as text, its start, or an "
            "offset in seconds such as +3600, and perhaps ,stopped",
            "TIME[,stopped]",
            flag="--clock",
        ),
    ] = None
    events_clock: Annotated[
        Clock | None,
        Option(
            "the clock for scheduled events; in the file, how many times faster than real time "
            "they run",
            "FACTOR",
            flag="--events-speed",
            key="events_speed",
            flag_help="how many times faster than real time scheduled events run",
        ),
    ] = None
    log_size: Annotated[int, Option("how many requests the log keeps", "NUMBER")] = 10000

    def __post_init__(self) -> None:
        validate_fields(self)
        for name, choices in _CHOICES.items():
            check_choice(name, getattr(self, name), get_args(choices))
        if self.metadata_security != "off" and self.profile != "vm":
            raise ValueError(f"metadata_security: the profile {self.profile} does not have it.")
        for name in ("host", "admin_host"):
            check_host(name, getattr(self, name), allow_remote=self.allow_remote)
        for name in ("port", "key_vault_port", "admin_port"):
            check_port(name, getattr(self, name))
        for name in ("token_lifetime", "arc_secret_lifetime", "log_size"):
            check_positive(name, getattr(self, name))
        if self.latency is not None and self.latency < 0:
            raise ValueError(f"latency cannot be negative: {self.latency}.")
        supported_versions(self.newest_version)
        self.tokens_group_id()
        self._check_lists()

    def _check_lists(self) -> None:
        # An iterable may be a generator, which can be read only once.
        for name, item_type in _ITEM_TYPES.items():
            items = tuple(getattr(self, name))
            check_items(name, items, item_type)
            object.__setattr__(self, name, items)
        validate_identities(self.identities)
        for name in self.allowed_hosts:
            check_name("allowed_hosts", name)
        for event in self.events:
            EventSpec(**event)
        if self.trusting_applications() and self.profile in WORKLOADS:
            raise ValueError(f"applications: the profile {self.profile} does not support them.")
        if self.applications and not self.key_vault:
            raise ValueError("applications: they need the https port of the Key Vault.")

    def trusting_applications(self) -> tuple[Application, ...]:
        """Return the applications; ValueError if one is not valid."""
        return parse_applications(self.applications, tuple(self.identities))

    def tokens_group_id(self) -> int | None:
        """Return the id of the group of Arc's key files; ValueError if there is no such group."""
        return None if self.tokens_group is None else group_id(self.tokens_group)

    def url(self, scheme: str, port: int) -> str:
        """Return the URL of a port; on a wildcard address with the first allowed host name."""
        if self.host in WILDCARD_ADDRESSES and self.allowed_hosts:
            return url(scheme, next(iter(self.allowed_hosts)), port)
        return url(scheme, self.host, port)
