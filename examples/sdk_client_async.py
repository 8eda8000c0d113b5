"""An async Azure SDK client with a managed identity: list the secrets of a Key Vault.

python examples/sdk_client_async.py https://my-vault.vault.azure.net
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from azure.keyvault.secrets.aio import SecretClient

from imds_identity.aio import ManagedIdentityCredential


async def list_secrets(
    vault_url: str, credential: ManagedIdentityCredential, **options: Any
) -> list[str]:
    """Return the names of a vault's secrets. ``options`` are passed to the client."""
    async with SecretClient(vault_url, credential, **options) as client:
        return [secret.name or "" async for secret in client.list_properties_of_secrets()]


if __name__ == "__main__":
    print("\n".join(asyncio.run(list_secrets(sys.argv[1], ManagedIdentityCredential()))))
