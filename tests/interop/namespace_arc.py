"""Run in a mount namespace: clients that require the default Arc tokens directory."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

from imds_identity.emulator import Emulator

DIRECTORY = "/var/opt/azcmagent/tokens"
RESOURCE = "https://vault.azure.net"


def python_clients() -> None:
    import azure.identity
    import azure.identity.aio
    import msal
    import requests

    import imds_identity

    with azure.identity.ManagedIdentityCredential() as credential:
        assert credential.get_token(f"{RESOURCE}/.default").token
    print("azure-identity")

    async def main() -> None:
        async with azure.identity.aio.ManagedIdentityCredential() as asynchronous:
            assert (await asynchronous.get_token(f"{RESOURCE}/.default")).token

    asyncio.run(main())
    print("azure-identity-aio")
    client = msal.ManagedIdentityClient(
        msal.SystemAssignedManagedIdentity(), http_client=requests.Session()
    )
    assert client.acquire_token_for_client(resource=RESOURCE)["access_token"]
    print("msal")
    assert imds_identity.ManagedIdentityCredential().get_token(RESOURCE).token
    print("imds-identity")


def main() -> None:
    with Emulator(profile="arc", tokens_directory=DIRECTORY) as emulator:
        os.environ.update(emulator.environment())
        if sys.argv[1] == "python":
            python_clients()
        else:
            subprocess.run(sys.argv[1:], check=True)


if __name__ == "__main__":
    main()
