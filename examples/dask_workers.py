"""Dask: count the lines of every blob in a container. One token request a machine.

    python examples/dask_workers.py https://ACCOUNT.blob.core.windows.net CONTAINER [SCHEDULER]

The credential travels with the tasks, tokens do not: it is pickled by its configuration alone, and
a worker that unpickles it asks its own machine. The workers of one machine share what one of them
has fetched, and so does the worker that is started after a crash.
"""

from __future__ import annotations

import sys
from functools import partial

from azure.storage.blob import ContainerClient
from distributed import Client

from imds_identity import ManagedIdentityCredential


def lines(blob: str, url: str, container: str, credential: ManagedIdentityCredential) -> int:
    """How many lines a blob has: what a worker does."""
    with ContainerClient(url, container, credential) as client:
        return sum(chunk.count(b"\n") for chunk in client.download_blob(blob).chunks())


def lines_of_all(cluster: Client, url: str, container: str) -> dict[str, int]:
    """How many lines each blob of a container has, by its name."""
    credential = ManagedIdentityCredential()
    with ContainerClient(url, container, credential) as client:
        blobs = list(client.list_blob_names())
    count = partial(lines, url=url, container=container, credential=credential)
    return dict(zip(blobs, cluster.gather(cluster.map(count, blobs)), strict=True))


if __name__ == "__main__":
    # With no scheduler named, Dask starts workers on this machine.
    with Client(*sys.argv[3:4]) as cluster:
        for blob, count in lines_of_all(cluster, sys.argv[1], sys.argv[2]).items():
            print(count, blob)
