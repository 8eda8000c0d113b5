"""Spark: count the lines of every blob in a container, with one token request per machine.

    spark-submit examples/spark_executors.py https://ACCOUNT.blob.core.windows.net CONTAINER

Tasks carry the credential but no token: a pickled credential contains only its configuration, and
an executor that unpickles it uses its own machine's metadata service. All Python workers of all
executors on a machine share one token, whether or not Spark reuses its workers.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

from azure.storage.blob import ContainerClient
from pyspark.sql import SparkSession

from imds_identity import ManagedIdentityCredential

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def lines(
    blobs: Iterable[str], url: str, container: str, credential: ManagedIdentityCredential
) -> Iterator[tuple[str, int]]:
    """Count the lines of each blob in a partition; runs in an executor."""
    with ContainerClient(url, container, credential) as client:
        for blob in blobs:
            chunks = client.download_blob(blob).chunks()
            yield blob, sum(chunk.count(b"\n") for chunk in chunks)


def lines_of_all(spark: SparkSession, url: str, container: str) -> dict[str, int]:
    """Count the lines of each blob in a container."""
    credential = ManagedIdentityCredential()
    with ContainerClient(url, container, credential) as client:
        blobs = list(client.list_blob_names())
    count = partial(lines, url=url, container=container, credential=credential)
    return dict(spark.sparkContext.parallelize(blobs).mapPartitions(count).collect())


if __name__ == "__main__":
    with SparkSession.builder.appName("lines of all blobs").getOrCreate() as session:
        for blob, count in lines_of_all(session, sys.argv[1], sys.argv[2]).items():
            print(count, blob)
