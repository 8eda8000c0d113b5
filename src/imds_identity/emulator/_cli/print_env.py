"""The variables for clients of an emulator that is not running, for ``--print-env``."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .._pki.certificates import thumbprint
from .._pki.key_store import VAULT_CA, KeyStore
from .._profiles import profiles
from .._settings import WORKLOADS

if TYPE_CHECKING:
    from .._settings import Settings


def default_state(port: int) -> Path | None:
    """Return this user's directory for an emulator on a port; None if it cannot be created."""
    variable = "LOCALAPPDATA" if sys.platform == "win32" else "HOME"
    default = "imds-identity" if sys.platform == "win32" else ".local/state/imds-identity"
    home, base = os.environ.get(variable), os.environ.get("XDG_STATE_HOME")
    if port == 0 or not (home or base):
        return None
    parent = Path(base) / "imds-identity" if base else Path(home or "") / default
    directory = parent / f"emulator-{port}"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        is_own = sys.platform == "win32" or directory.stat().st_uid == os.geteuid()
    except OSError:
        return None
    return directory if is_own and os.access(directory, os.W_OK) else None


def fixed_endpoint(settings: Settings) -> str:
    """Return the URL of the token and metadata endpoint; ValueError if its port is not fixed."""
    if settings.port == 0:
        raise ValueError("The port is not fixed. Use --port with a number other than 0.")
    return settings.url("https" if settings.profile in profiles.WITH_TLS else "http", settings.port)


def fixed_environment(settings: Settings) -> dict[str, str]:
    """Return the variables for clients; ValueError if the emulator chooses one at its start."""
    endpoint = fixed_endpoint(settings)
    if settings.profile in WORKLOADS:
        _create_authority(settings)
        return profiles.workload_variables(settings, endpoint, _state_directory(settings))
    address = profiles.address(settings, _identity_header(settings), endpoint)
    if settings.profile == "service-fabric":
        keys = _store(settings)
        _, certificate = profiles.certificate(settings, keys, profiles.authority(keys))
        address = address._replace(thumbprint=thumbprint(certificate))
    return {**profiles.environment(address), **_entra_variables(settings)}


def _identity_header(settings: Settings) -> str:
    if settings.state is not None and settings.identity_header is None:
        return profiles.identity_header(settings, _store(settings))
    header = profiles.identity_header(settings, KeyStore())
    if header != (settings.identity_header or ""):
        raise ValueError("The identity header is random. Set a fixed one with --identity-header.")
    return header


def _entra_variables(settings: Settings) -> dict[str, str]:
    if not settings.applications:
        return {}
    vault = fixed_key_vault(settings)
    if vault is None:
        raise ValueError("The port of Entra's endpoint is not fixed. Use --key-vault-port.")
    return profiles.entra_variables(vault[0], str(_state_directory(settings) / f"{VAULT_CA}.pem"))


def _state_directory(settings: Settings) -> Path:
    if settings.state is None:
        raise ValueError(
            "Without --state, the certificate of the https port is new at every start, and its "
            "file is not known: use --state, or the output of the emulator itself."
        )
    return Path(settings.state).absolute()


def _store(settings: Settings) -> KeyStore:
    """Return the store in which the emulator finds what is printed here."""
    store = KeyStore(_state_directory(settings))
    store.prepare()
    return store


def _create_authority(settings: Settings) -> None:
    """Create the root certificate for clients that start first; another user cannot."""
    with contextlib.suppress(OSError):
        profiles.authority(_store(settings))


def fixed_key_vault(settings: Settings) -> tuple[str, str | None] | None:
    """Return the URL of the Key Vault and the file of its root certificate, as far as known.

    The URL is known if the port is fixed, the file if there is a state directory.
    """
    if not settings.key_vault or settings.key_vault_port == 0:
        return None
    ca_file = None
    if settings.state is not None:
        ca_file = str(_state_directory(settings) / f"{VAULT_CA}.pem")
        _create_authority(settings)
    return settings.url("https", settings.key_vault_port), ca_file
