"""A local Spark cluster: two executors, each a JVM with half of the Python workers."""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager
from pathlib import Path

from pyspark.serializers import CloudPickleSerializer
from pyspark.sql import SparkSession

EXECUTORS = 2


def executor():
    """Return the process id of this worker's executor, whose one Python child forks all workers."""
    stat = Path(f"/proc/{os.getppid()}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[1])


class Cluster:
    dumps = staticmethod(CloudPickleSerializer().dumps)

    def __init__(self, context, workers):
        self._context = context
        self._workers = workers

    def run(self, job, *arguments):
        # In barrier mode, all tasks of a stage run at the same time.
        stage = self._context.parallelize(range(self._workers), self._workers).barrier()
        return stage.mapPartitions(lambda _: [job(*arguments)]).collect()

    def restart(self):
        before = self._addresses()
        for process in set(self.run(executor)):
            os.kill(process, signal.SIGKILL)
        # A stage in barrier mode fails if an executor exits, so wait for the new executors.
        while len(self._addresses()) < EXECUTORS + 1 or len(self._addresses() - before) < EXECUTORS:
            time.sleep(0.1)

    def _addresses(self):
        """Return the addresses of the driver and the executors, from the driver."""
        return set(self._context._jsc.sc().getExecutorMemoryStatus().keySet().mkString(" ").split())


@contextmanager
def cluster(workers):
    builder = (
        SparkSession.builder.master(f"local-cluster[{EXECUTORS},{workers // EXECUTORS},512]")
        .config("spark.executor.memory", "512m")
        .config("spark.ui.enabled", "false")
        .config("spark.scheduler.barrier.maxConcurrentTasksCheck.interval", "1s")
    )
    with builder.getOrCreate() as session:
        yield Cluster(session.sparkContext, workers)
