"""``imds-identity demo``: an Azure SDK client on an emulated VM and on an emulated Arc server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._platform.environment import patched_environ
from .output import print_error

if TYPE_CHECKING:
    import argparse

    from azure.keyvault.secrets import SecretClient

    from ..emulator import Emulator
    from ..emulator._settings import Profile

_HOSTS: tuple[tuple[Profile, str, str], ...] = (
    ("vm", "imds", "an Azure VM"),
    ("arc", "arc", "an Azure Arc server"),
)
_CACHED_REQUESTS = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a description; the command has no arguments."""
    parser.description = (
        "Reads a secret with azure.keyvault.secrets.SecretClient and a ManagedIdentityCredential, "
        "first on an Azure VM and then on an Azure Arc server. This machine emulates both hosts "
        "and the Key Vault, which verifies the token."
    )


def run(_args: argparse.Namespace) -> int:
    """Run the demo; return the exit status."""
    try:
        import azure.keyvault.secrets

        from ..emulator import Emulator
    except ModuleNotFoundError as error:
        return print_error(f"{error}; the demo needs: pip install 'imds-identity[demo]'")
    for profile, source, host in _HOSTS:
        secrets = {"greeting": f"hello from the vault, {host}"}
        with (
            Emulator(profile=profile, secrets=secrets) as emulator,
            patched_environ(emulator.environment()),
        ):
            print(f"As {host}")
            _show(emulator, source, azure.keyvault.secrets.SecretClient)
    return 0


def _show(emulator: Emulator, source: str, secret_client: type[SecretClient]) -> None:
    from .. import ManagedIdentityCredential

    directory = emulator.tokens_directory
    credential = ManagedIdentityCredential(
        source=source,
        arc_tokens_directory=str(directory) if directory else None,
        cache="off",  # the demo leaves no tokens behind
    )
    client = secret_client(
        emulator.key_vault.url,
        credential,
        # The vault runs on this machine: its host name differs from the one in its challenge, and
        # its certificate is new.
        verify_challenge_resource=False,
        connection_verify=emulator.key_vault.ca_file,
    )
    with client:
        secret = client.get_secret("greeting")
    for _ in range(_CACHED_REQUESTS):
        credential.get_token("https://vault.azure.net/.default")
    print(f"  the metadata service   {emulator.endpoint}")
    print(f"  the Key Vault          {emulator.key_vault.url}")
    print(f"  its secret             {secret.name} = {secret.value!r}")
    print(f"  get_token calls        {_CACHED_REQUESTS + 1}")
    for number, request in enumerate(emulator.token_requests, 1):
        print(
            f"  request {number}              {request.method} {request.path} -> {request.status}"
        )
    print()
