"""`green_fetches.py LIBRARY WHEN RESOURCES`: fetch tokens in green threads, one for each resource.

LIBRARY is gevent or eventlet. It patches the standard library at the moment WHEN: before-import,
after-import or after-use of this package. The output is a line of JSON: the number of tokens, and
how often another green thread ran in the meantime.
"""

from __future__ import annotations

import importlib
import json
import sys
import warnings
from functools import partial

LIBRARY, WHEN, RESOURCES = sys.argv[1], sys.argv[2], int(sys.argv[3])


def patch() -> None:
    """Patch the standard library."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of modules that were imported before
        if LIBRARY == "gevent":
            importlib.import_module("gevent.monkey").patch_all()
        else:
            importlib.import_module("eventlet").monkey_patch()


if WHEN == "before-import":
    patch()

import http.client  # noqa: E402, F401 - with it, the constructor imports what a fetch needs
import time  # noqa: E402

from imds_identity import ManagedIdentityCredential, clear_cache  # noqa: E402


def main() -> None:
    """Fetch the tokens."""
    credential = ManagedIdentityCredential()
    if WHEN == "after-use":
        credential.get_token("https://resource-0.example/.default")
        clear_cache()
    if WHEN != "before-import":
        patch()
    spawn = importlib.import_module(LIBRARY).spawn
    steps, fetched = [0], list[str]()

    def fetch(number: int) -> None:
        fetched.append(credential.get_token(f"https://resource-{number}.example/.default").token)

    def count() -> None:
        while len(fetched) < RESOURCES:
            time.sleep(0.01)
            steps[0] += 1

    threads = [spawn(partial(fetch, number)) for number in range(RESOURCES)] + [spawn(count)]
    for thread in threads[:-1]:
        thread.get() if LIBRARY == "gevent" else thread.wait()
    print(json.dumps({"tokens": len(set(fetched)), "steps": steps[0]}))


if __name__ == "__main__":
    main()
