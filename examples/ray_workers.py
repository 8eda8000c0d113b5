"""Ray: count the lines of every blob in a container, with one token request per machine.

    python examples/ray_workers.py https://ACCOUNT.blob.core.windows.net CONTAINER [ADDRESS]

Each actor gets the credential and creates its own client. A pickled credential contains only its
configuration: a token never leaves its machine. The actors of a machine share one token, including
actors that Ray restarts after a crash.
"""

from __future__ import annotations

import sys

import ray
from azure.storage.blob import ContainerClient
from ray.util import ActorPool

from imds_identity import ManagedIdentityCredential


class Reader:
    """Read blobs in a worker.

    Args:
        url: URL of the storage account.
        container: name of the container.
        credential: the credential for the storage account.
    """

    def __init__(self, url: str, container: str, credential: ManagedIdentityCredential) -> None:
        self._client = ContainerClient(url, container, credential)

    def lines(self, blob: str) -> int:
        """Count the lines of a blob."""
        return sum(chunk.count(b"\n") for chunk in self._client.download_blob(blob).chunks())


def lines_of_all(url: str, container: str) -> dict[str, int]:
    """Count the lines of each blob in a container."""
    credential = ManagedIdentityCredential()
    with ContainerClient(url, container, credential) as client:
        blobs = list(client.list_blob_names())
    reader = ray.remote(Reader).options(max_restarts=3, scheduling_strategy="SPREAD")
    workers = int(ray.cluster_resources()["CPU"])
    pool = ActorPool([reader.remote(url, container, credential) for _ in range(workers)])
    counts = pool.map(lambda actor, blob: actor.lines.remote(blob), blobs)
    return dict(zip(blobs, counts, strict=True))


if __name__ == "__main__":
    # Without a cluster address, Ray starts workers on this machine.
    ray.init(*sys.argv[3:4])
    for blob, count in lines_of_all(sys.argv[1], sys.argv[2]).items():
        print(count, blob)
