"""Read several Key Vault secrets concurrently with one token request.

python examples/key_vault_secret_async.py https://my-vault.vault.azure.net name another-name
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from azure.keyvault.secrets.aio import SecretClient

from imds_identity.aio import ManagedIdentityCredential


async def read_secrets(
    vault_url: str, names: list[str], credential: ManagedIdentityCredential, **options: Any
) -> dict[str, str]:
    """Return the values of secrets by name. ``options`` are passed to the client."""
    async with SecretClient(vault_url, credential, **options) as client:
        secrets = await asyncio.gather(*(client.get_secret(name) for name in names))
    return {secret.name or "": secret.value or "" for secret in secrets}


if __name__ == "__main__":
    found = asyncio.run(read_secrets(sys.argv[1], sys.argv[2:], ManagedIdentityCredential()))
    for name, value in found.items():
        print(f"{name} has {len(value)} characters")
