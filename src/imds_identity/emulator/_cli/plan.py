"""Where an emulator will serve, told before it does."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .._pki.key_store import VAULT_CA
from .._profiles.profiles import environment

if TYPE_CHECKING:
    from .._settings import Settings


def planned_endpoint(settings: Settings) -> str:
    """The URL of the token and metadata endpoint.

    Raises:
        ValueError: if its port is not fixed, so that nobody can know.
    """
    if settings.port == 0:
        raise ValueError("The port is not fixed: give one other than 0.")
    return settings.url("http", settings.port)


def planned_environment(settings: Settings) -> dict[str, str]:
    """The variables that will lead a client to it.

    Raises:
        ValueError: if its port, or App Service's identity header, is not fixed.
    """
    if settings.profile == "app-service" and settings.identity_header is None:
        raise ValueError("The identity header is random: give one to know it beforehand.")
    return environment(settings.profile, planned_endpoint(settings), settings.identity_header or "")


def planned_key_vault(settings: Settings) -> tuple[str, str | None] | None:
    """The URL of the Key Vault and the file of its root certificate, as far as known.

    A port that is not fixed is not known, nor is the file without a ``state`` directory.
    """
    if not settings.key_vault or settings.key_vault_port == 0:
        return None
    kept = settings.state
    ca_file = None if kept is None else os.path.join(os.path.abspath(kept), f"{VAULT_CA}.pem")
    return settings.url("https", settings.key_vault_port), ca_file
