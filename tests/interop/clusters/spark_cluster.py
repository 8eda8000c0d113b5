"""The Python workers of Spark's executors: two executors, each a JVM and half of the workers."""

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
    """The process id of this worker's executor: workers are forked by its one Python child."""
    stat = Path(f"/proc/{os.getppid()}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[1])


class Cluster:
    dumps = staticmethod(CloudPickleSerializer().dumps)

    def __init__(self, context, workers):
        self._context = context
        self._workers = workers

    def each(self, job, *arguments):
        # In barrier mode all tasks of a stage run at the same time.
        stage = self._context.parallelize(range(self._workers), self._workers).barrier()
        return stage.mapPartitions(lambda _: [job(*arguments)]).collect()

    def restart(self):
        before = self._known()
        for process in set(self.each(executor)):
            os.kill(process, signal.SIGKILL)
        # A stage in barrier mode that meets an executor's end fails as a whole.
        while len(self._known()) < EXECUTORS + 1 or len(self._known() - before) < EXECUTORS:
            time.sleep(0.1)

    def _known(self):
        """The addresses of the executors, and the driver's, as the driver has them."""
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
