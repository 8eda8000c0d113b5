"""Dask: count the lines of every blob in a container, with one token request per machine.

    python examples/dask_workers.py https://ACCOUNT.blob.core.windows.net CONTAINER [SCHEDULER]

Tasks carry the credential but no token: a pickled credential contains only its configuration, and
a worker that unpickles it uses its own machine's metadata service. The workers of a machine share
one token, including workers that start after a crash.
"""

from __future__ import annotations

import sys
from functools import partial

from azure.storage.blob import ContainerClient
from distributed import Client

from imds_identity import ManagedIdentityCredential


def lines(blob: str, url: str, container: str, credential: ManagedIdentityCredential) -> int:
    """Count the lines of a blob; runs in a worker."""
    with ContainerClient(url, container, credential) as client:
        return sum(chunk.count(b"\n") for chunk in client.download_blob(blob).chunks())


def lines_of_all(cluster: Client, url: str, container: str) -> dict[str, int]:
    """Count the lines of each blob in a container."""
    credential = ManagedIdentityCredential()
    with ContainerClient(url, container, credential) as client:
        blobs = list(client.list_blob_names())
    count = partial(lines, url=url, container=container, credential=credential)
    return dict(zip(blobs, cluster.gather(cluster.map(count, blobs)), strict=True))


if __name__ == "__main__":
    # Without a scheduler address, Dask starts workers on this machine.
    with Client(*sys.argv[3:4]) as cluster:
        for blob, count in lines_of_all(cluster, sys.argv[1], sys.argv[2]).items():
            print(count, blob)
