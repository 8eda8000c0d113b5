"""The addresses of an emulator that is not running, for ``--print-env``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from .._pki.key_store import VAULT_CA
from .._profiles import profiles
from .._settings import WORKLOADS

if TYPE_CHECKING:
    from .._settings import Settings


def fixed_endpoint(settings: Settings) -> str:
    """Return the URL of the token and metadata endpoint; ValueError if its port is not fixed."""
    if settings.port == 0:
        raise ValueError("The port is not fixed. Use --port with a number other than 0.")
    return settings.url("https" if settings.profile in profiles.WITH_TLS else "http", settings.port)


def fixed_environment(settings: Settings) -> dict[str, str]:
    """Return the variables for clients; ValueError if the port or identity header is not fixed."""
    if settings.profile == "service-fabric":
        raise ValueError(
            "The certificate of this profile, and with it the thumbprint in the variables, is new "
            "at every start: use the output of the emulator itself."
        )
    if settings.profile in WORKLOADS:
        directory = Path(_state_directory(settings))
        return profiles.workload_variables(settings, fixed_endpoint(settings), directory)
    address = profiles.address(settings, settings.identity_header or "", fixed_endpoint(settings))
    has_secret = profiles.has_secret(settings.profile, is_windows=address.is_windows)
    if has_secret and settings.identity_header is None:
        raise ValueError("The identity header is random. Set a fixed one with --identity-header.")
    return {**profiles.environment(address), **_entra_variables(settings)}


def _entra_variables(settings: Settings) -> dict[str, str]:
    if not settings.applications:
        return {}
    vault = fixed_key_vault(settings)
    if vault is None:
        raise ValueError("The port of Entra's endpoint is not fixed. Use --key-vault-port.")
    ca_file = os.path.join(_state_directory(settings), f"{VAULT_CA}.pem")
    return profiles.entra_variables(vault[0], ca_file)


def _state_directory(settings: Settings) -> str:
    if settings.state is None:
        raise ValueError(
            "Without --state, the certificate of the https port is new at every start, and its "
            "file is not known: use --state, or the output of the emulator itself."
        )
    return os.path.abspath(settings.state)


def fixed_key_vault(settings: Settings) -> tuple[str, str | None] | None:
    """Return the URL of the Key Vault and the file of its root certificate, as far as known.

    The URL is known if the port is fixed, the file if there is a state directory.
    """
    if not settings.key_vault or settings.key_vault_port == 0:
        return None
    ca_file = None
    if settings.state is not None:
        ca_file = os.path.join(_state_directory(settings), f"{VAULT_CA}.pem")
    return settings.url("https", settings.key_vault_port), ca_file
