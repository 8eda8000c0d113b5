"""A local Ray cluster of actors."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager, suppress

import ray
from ray import cloudpickle


class Actor:
    def run_job(self, job, *arguments):
        return job(*arguments)

    def exit(self):
        os._exit(1)


class Cluster:
    dumps = staticmethod(cloudpickle.dumps)

    def __init__(self, workers):
        kind = ray.remote(Actor).options(num_cpus=1, max_restarts=-1, max_task_retries=-1)
        self._actors = [kind.remote() for _ in range(workers)]

    def run(self, job, *arguments):
        return ray.get([actor.run_job.remote(job, *arguments) for actor in self._actors])

    def restart(self):
        for exited in [actor.exit.options(max_task_retries=0).remote() for actor in self._actors]:
            with suppress(ray.exceptions.RayActorError):
                ray.get(exited)


@contextmanager
def cluster(workers):
    folder = tempfile.mkdtemp(dir="/tmp")  # the paths of sockets must be short
    ray.init(
        num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="error",
        object_store_memory=100_000_000, _temp_dir=folder,
    )  # fmt: skip
    try:
        yield Cluster(workers)
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
