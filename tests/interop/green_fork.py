"""`green_fork.py LIBRARY`: fork in a green thread while another one fetches a token.

The output is a line of JSON: how many green threads got a token, and the status of the child.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import warnings

warnings.simplefilter("ignore")  # of the libraries themselves, and of the fork
LIBRARY = sys.argv[1]

if LIBRARY == "gevent":
    importlib.import_module("gevent.monkey").patch_all()
else:
    importlib.import_module("eventlet").monkey_patch()

import http.client  # noqa: E402, F401 - with it, the constructor imports what a fetch needs
import time  # noqa: E402

from imds_identity import ManagedIdentityCredential  # noqa: E402

CREDENTIAL = ManagedIdentityCredential()


def fetch() -> int:
    """Return 1 after a token was fetched."""
    CREDENTIAL.get_token("https://resource-0.example/.default")
    return 1


def fork() -> int:
    """Return the status of a child that needs the same token."""
    time.sleep(0.1)  # the other green thread waits for the response
    child = os.fork()
    if not child:
        signal.alarm(30)
        os._exit(1 - fetch())
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.01)


if __name__ == "__main__":
    spawn = importlib.import_module(LIBRARY).spawn
    threads = [spawn(fetch), spawn(fork)]
    tokens, status = [each.get() if LIBRARY == "gevent" else each.wait() for each in threads]
    print(json.dumps({"tokens": tokens, "status": status}))
