"""Dask workers that each need a token: the credential travels, tokens do not.

    python examples/dask_workers.py

A credential is pickled by its configuration only. Where a worker unpickles it, it finds that
machine's own source, and the workers of one machine share what one of them has fetched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from distributed import Client, LocalCluster

from imds_identity import ManagedIdentityCredential

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

SCOPE = "https://storage.azure.com/.default"


def expiry(_task: int, credential: TokenCredential) -> int:
    """What a worker does: here it only says until when its token is good."""
    return credential.get_token(SCOPE).expires_on


def expiries(workers: int, credential: TokenCredential) -> list[int]:
    """What each of ``workers`` processes of this machine says of its token."""
    with (
        LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        addresses = list(client.scheduler_info(n_workers=-1)["workers"])
        futures = [
            client.submit(expiry, number, credential, workers=[address], pure=False)
            for number, address in enumerate(addresses)
        ]
        return [int(future.result()) for future in futures]


if __name__ == "__main__":
    print(expiries(10, ManagedIdentityCredential()))
