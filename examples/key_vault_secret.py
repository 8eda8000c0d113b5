"""Read one Key Vault secret as a user-assigned identity.

python examples/key_vault_secret.py https://my-vault.vault.azure.net db-password CLIENT_ID
"""

from __future__ import annotations

import sys
from typing import Any

from azure.keyvault.secrets import SecretClient

from imds_identity import ManagedIdentityCredential


def read_secret(
    vault_url: str, name: str, credential: ManagedIdentityCredential, **options: Any
) -> str:
    """Return the value of a secret. ``options`` are passed to the client."""
    with SecretClient(vault_url, credential, **options) as client:
        return client.get_secret(name).value or ""


if __name__ == "__main__":
    vault, secret, *client_id = sys.argv[1:]
    identity = ManagedIdentityCredential(client_id=client_id[0] if client_id else None)
    print(f"{secret} has {len(read_secret(vault, secret, identity))} characters")
