"""Run in a network namespace: the emulator at 169.254.169.254, and clients without variables."""

from __future__ import annotations

import azure.identity

import imds_identity
from imds_identity.emulator import Emulator

SCOPE = "https://vault.azure.net/.default"


def main() -> None:
    with Emulator(host="169.254.169.254", port=80, allow_remote=True, key_vault=False):
        assert imds_identity.ManagedIdentityCredential().get_token(SCOPE).token
        print("imds-identity")
        with azure.identity.ManagedIdentityCredential() as credential:
            assert credential.get_token(SCOPE).token
        print("azure-identity")


if __name__ == "__main__":
    main()
