"""``imds-identity demo``: a real Azure SDK client, once on a VM and once on an Arc server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._platform.environment import patched_environ
from .output import complain

if TYPE_CHECKING:
    import argparse

    from ..emulator import Emulator
    from ..emulator._settings import Profile

_HOSTS: tuple[tuple[Profile, str, str], ...] = (
    ("vm", "imds", "an Azure VM"),
    ("arc", "arc", "an Azure Arc server"),
)
_AGAIN = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's arguments, of which there are none."""
    parser.description = (
        "Lets azure.keyvault.secrets.SecretClient fetch a secret with a ManagedIdentityCredential, "
        "once as on an Azure VM and once as on an Azure Arc server. Both are emulated on this "
        "machine, and so is the Key Vault, which verifies the token."
    )


def run(_args: argparse.Namespace) -> int:
    """Show it; the exit status."""
    try:
        import azure.keyvault.secrets

        from ..emulator import Emulator
    except ModuleNotFoundError as error:
        return complain(f"{error}; the demo needs: pip install 'imds-identity[demo]'")
    for profile, source, host in _HOSTS:
        secrets = {"greeting": f"hello from the vault, {host}"}
        with (
            Emulator(profile=profile, secrets=secrets) as emulator,
            patched_environ(emulator.environment()),
        ):
            print(f"As {host}")
            _show(emulator, source, azure.keyvault.secrets.SecretClient)
    return 0


def _show(emulator: Emulator, source: str, secret_client: Any) -> None:
    from .. import ManagedIdentityCredential

    directory = emulator.tokens_directory
    credential = ManagedIdentityCredential(
        source=source,
        arc_tokens_directory=str(directory) if directory else None,
        cache="off",  # nothing of a demo is to stay
    )
    client = secret_client(
        emulator.key_vault.url,
        credential,
        # The vault is on this machine: its name is not the one in its challenge, and its
        # certificate was made a moment ago.
        verify_challenge_resource=False,
        connection_verify=emulator.key_vault.ca_file,
    )
    with client:
        secret = client.get_secret("greeting")
    for _ in range(_AGAIN):
        credential.get_token("https://vault.azure.net/.default")
    print(f"  the metadata service   {emulator.endpoint}")
    print(f"  the Key Vault          {emulator.key_vault.url}")
    print(f"  its secret             {secret.name} = {secret.value!r}")
    print(f"  tokens asked for       {_AGAIN + 1}")
    for number, request in enumerate(emulator.token_requests, 1):
        print(
            f"  request {number}              {request.method} {request.path} -> {request.status}"
        )
    print()
