"""`processes.py START_METHOD POOL`: request tokens in a pool of processes; print digests."""

from __future__ import annotations

import json
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from itertools import chain

from token_jobs import sync_job, threads_job

from imds_identity import ManagedIdentityCredential

PROCESSES = 4


def main(start_method: str, pool: str) -> None:
    """Run `sync_job` and `threads_job` in processes, with a credential of this process."""
    context = multiprocessing.get_context(start_method)
    credential = ManagedIdentityCredential()
    digests = [sync_job(credential)]
    work = [credential] * PROCESSES * 4
    if pool == "multiprocessing":
        with context.Pool(PROCESSES) as processes:
            digests += processes.map(sync_job, work, chunksize=1)
            digests += chain.from_iterable(processes.map(threads_job, work[:PROCESSES]))
            processes.close()
            processes.join()
    else:
        with ProcessPoolExecutor(PROCESSES, mp_context=context) as executor:
            digests += executor.map(sync_job, work)
            digests += chain.from_iterable(executor.map(threads_job, work[:PROCESSES]))
    digests.append(sync_job())
    print(json.dumps({"digests": digests}))


if __name__ == "__main__":
    main(*sys.argv[1:])
