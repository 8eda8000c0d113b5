"""A local Dask cluster."""

from __future__ import annotations

from contextlib import contextmanager

from distributed import Client, LocalCluster
from distributed.protocol.pickle import dumps


class Cluster:
    dumps = staticmethod(dumps)

    def __init__(self, client):
        self._client = client

    def run(self, job, *arguments):
        workers = list(self._client.scheduler_info(n_workers=-1)["workers"])
        futures = [
            self._client.submit(job, *arguments, workers=[worker], pure=False) for worker in workers
        ]
        return self._client.gather(futures)

    def restart(self):
        self._client.restart(timeout=300)


@contextmanager
def cluster(workers):
    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield Cluster(client)
