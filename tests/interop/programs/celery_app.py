"""A Celery application whose broker and results are files in the working directory."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded
from token_jobs import aio_job, sync_job

import imds_identity.aio

for folder in ("queue", "results"):
    Path(folder).mkdir(exist_ok=True)

CREDENTIAL = imds_identity.ManagedIdentityCredential()
AIO_CREDENTIAL = imds_identity.aio.ManagedIdentityCredential()
app = Celery("celery_app", broker="filesystem://", backend=f"file://{Path.cwd()}/results")
app.conf.broker_transport_options = {
    "data_folder_in": "queue",
    "data_folder_out": "queue",
    "control_folder": "control",
    "polling_interval": 0.05,
}


@app.task
def tokens() -> tuple[int, list[str]]:
    """Run `sync_job`."""
    return os.getpid(), sync_job(CREDENTIAL)


@app.task
def aio_tokens() -> tuple[int, list[str]]:
    """Run `aio_job`."""
    return os.getpid(), asyncio.run(aio_job(AIO_CREDENTIAL))


@app.task(soft_time_limit=1)
def limited_tokens() -> tuple[int, list[str]]:
    """Run `sync_job` until a signal handler raises an exception."""
    try:
        return os.getpid(), sync_job(CREDENTIAL)
    except SoftTimeLimitExceeded:
        return os.getpid(), ["stopped"]
