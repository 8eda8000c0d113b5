"""How one emulator is to be served: checked once, then only read."""

from __future__ import annotations

import ipaddress
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

Profile = Literal["vm", "arc", "stack-hub", "app-service"]
ArcAgent = Literal["current", "older"]
DEFAULT_SECRETS: Mapping[str, str] = {"greeting": "Hello from the emulated vault"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where an emulator listens and which services it has; `Emulator` describes each.

    Raises:
        ValueError: A value makes no sense; the message begins with its name.
    """

    profile: Profile
    host: str
    port: int
    allow_remote: bool
    tokens_directory: str | os.PathLike[str] | None
    arc_agent: ArcAgent
    arc_secret_lifetime: float
    identity_header: str | None = field(repr=False)
    key_vault: bool
    key_vault_port: int
    admin_port: int | None
    # Stands in for an identity header that was not given.
    random_header: str = field(default_factory=lambda: uuid.uuid4().hex, repr=False)

    def __post_init__(self) -> None:
        """Checks every value."""
        _check_choice("profile", self.profile, get_args(Profile))
        _check_choice("arc_agent", self.arc_agent, get_args(ArcAgent))
        _check_host(self.host, allow_remote=self.allow_remote)
        _check_port("port", self.port)
        _check_port("key_vault_port", self.key_vault_port)
        _check_port("admin_port", self.admin_port)
        check_positive("arc_secret_lifetime", self.arc_secret_lifetime)

    @property
    def secret_header(self) -> str:
        """App Service's ``IDENTITY_HEADER``."""
        return self.identity_header or self.random_header

    def url(self, scheme: str, port: int) -> str:
        """Returns the URL of a port on the host."""
        # An address that stands for all of them is reached under the loopback one.
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        host = f"[{host}]" if ":" in host else host
        return f"{scheme}://{host}:{port}"


def check_positive(name: str, number: float) -> None:
    """Refuses a number that is not above zero.

    Raises:
        ValueError: It is not.
    """
    if not number > 0:
        raise ValueError(f"{name} must be above zero, not {number}.")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}.")


def _check_port(name: str, port: int | None) -> None:
    if port is not None and not 0 <= port <= 65535:
        raise ValueError(f"{name} must lie between 0 and 65535; {port} does not.")


def _check_host(host: str, *, allow_remote: bool) -> None:
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise ValueError(f"host must be an IP address such as 127.0.0.1, not {host!r}.") from None
    if not loopback and not allow_remote:
        raise ValueError(
            f"host {host} is reachable from other machines, and whoever reaches the emulator gets "
            "its tokens. Say allow_remote=True if that is meant."
        )
