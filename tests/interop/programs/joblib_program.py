"""`joblib_program.py BACKEND`: request tokens in joblib's workers; print digests."""

from __future__ import annotations

import json
import os
import sys
from itertools import chain

from joblib import Parallel, delayed
from token_jobs import sync_job, threads_job

from imds_identity import ManagedIdentityCredential

WORKERS = 4


def run(job, *arguments):
    """Run a job; return the process id and its digests."""
    return os.getpid(), job(*arguments)


def main(backend: str) -> None:
    """Pass a credential to the workers, before and after this process has used it."""
    credential = ManagedIdentityCredential()
    digests = []
    for _ in range(2):
        with Parallel(WORKERS, backend=backend) as parallel:
            results = parallel(delayed(run)(sync_job, credential) for _ in range(WORKERS * 4))
            digests += [result for _, result in results]
            results = parallel(delayed(run)(threads_job, credential) for _ in range(WORKERS))
            digests += chain.from_iterable(result for _, result in results)
        digests.append(sync_job(credential))
    print(json.dumps({"digests": digests}))


if __name__ == "__main__":
    main(*sys.argv[1:])
