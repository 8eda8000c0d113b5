"""The addresses of an emulator that is not running, for ``--print-env``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .._pki.key_store import VAULT_CA
from .._profiles import profiles

if TYPE_CHECKING:
    from .._settings import Settings


def fixed_endpoint(settings: Settings) -> str:
    """Return the URL of the token and metadata endpoint; ValueError if its port is not fixed."""
    if settings.port == 0:
        raise ValueError("The port is not fixed. Use --port with a number other than 0.")
    return settings.url("http", settings.port)


def fixed_environment(settings: Settings) -> dict[str, str]:
    """Return the variables for clients; ValueError if the port or identity header is not fixed."""
    if settings.profile in profiles.WITH_TLS:
        raise ValueError(
            "The certificate of this profile, and with it a thumbprint or a file in the variables, "
            "is new at every start: use the output of the emulator itself."
        )
    address = profiles.address(settings, settings.identity_header or "", fixed_endpoint(settings))
    has_secret = profiles.has_secret(settings.profile, is_windows=address.is_windows)
    if has_secret and settings.identity_header is None:
        raise ValueError("The identity header is random. Set a fixed one with --identity-header.")
    return {**profiles.environment(address), **_entra_variables(settings)}


def _entra_variables(settings: Settings) -> dict[str, str]:
    if not settings.applications:
        return {}
    url, ca_file = fixed_key_vault(settings) or ("", None)
    if ca_file is None:
        raise ValueError(
            "The certificate of Entra's endpoint is new at every start. Keep it with --state, and "
            "use a fixed --key-vault-port; or use the output of the emulator itself."
        )
    return profiles.entra_variables(url, ca_file)


def fixed_key_vault(settings: Settings) -> tuple[str, str | None] | None:
    """Return the URL of the Key Vault and the file of its root certificate, as far as known.

    The URL is known if the port is fixed, the file if there is a state directory.
    """
    if not settings.key_vault or settings.key_vault_port == 0:
        return None
    ca_file = None
    if settings.state is not None:
        ca_file = os.path.join(os.path.abspath(settings.state), f"{VAULT_CA}.pem")
    return settings.url("https", settings.key_vault_port), ca_file
