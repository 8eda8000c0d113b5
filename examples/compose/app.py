"""Write a blob, and read it again, with the managed identity of the machine.

Nothing here is specific to the emulators: in Azure, BLOB_URL is the storage account and
BLOB_CA_FILE is not set.
"""

from __future__ import annotations

import os

from azure.storage.blob import BlobServiceClient

from imds_identity import ManagedIdentityCredential


def main() -> None:
    """Write the blob and print its content."""
    verify = os.environ.get("BLOB_CA_FILE") or True
    credential = ManagedIdentityCredential()
    with BlobServiceClient(os.environ["BLOB_URL"], credential, connection_verify=verify) as service:
        container = service.get_container_client("greetings")
        if not container.exists():
            container.create_container()
        container.upload_blob("hello", b"Hello from Azurite", overwrite=True)
        print(container.download_blob("hello").readall().decode())


if __name__ == "__main__":
    main()
