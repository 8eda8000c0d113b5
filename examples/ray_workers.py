"""Ray: count the lines of every blob in a container. One token request a machine.

    python examples/ray_workers.py https://ACCOUNT.blob.core.windows.net CONTAINER [ADDRESS]

Each actor has a client of its own and is given the credential, which is pickled by its
configuration alone: a token never leaves its machine. The actors of one machine share what one of
them has fetched, and so does the actor that Ray starts again after a crash.
"""

from __future__ import annotations

import sys

import ray
from azure.storage.blob import ContainerClient
from ray.util import ActorPool

from imds_identity import ManagedIdentityCredential


class Reader:
    """What runs in a worker.

    Args:
        url: of the storage account.
        container: which to read.
        credential: as whom.
    """

    def __init__(self, url: str, container: str, credential: ManagedIdentityCredential) -> None:
        self._client = ContainerClient(url, container, credential)

    def lines(self, blob: str) -> int:
        """How many lines a blob has."""
        return sum(chunk.count(b"\n") for chunk in self._client.download_blob(blob).chunks())


def lines_of_all(url: str, container: str) -> dict[str, int]:
    """How many lines each blob of a container has, by its name."""
    credential = ManagedIdentityCredential()
    with ContainerClient(url, container, credential) as client:
        blobs = list(client.list_blob_names())
    reader = ray.remote(Reader).options(max_restarts=3, scheduling_strategy="SPREAD")
    workers = int(ray.cluster_resources()["CPU"])
    pool = ActorPool([reader.remote(url, container, credential) for _ in range(workers)])
    counts = pool.map(lambda actor, blob: actor.lines.remote(blob), blobs)
    return dict(zip(blobs, counts, strict=True))


if __name__ == "__main__":
    # With no address of a cluster, Ray starts workers on this machine.
    ray.init(*sys.argv[3:4])
    for blob, count in lines_of_all(sys.argv[1], sys.argv[2]).items():
        print(count, blob)
