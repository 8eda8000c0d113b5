"""`green_threads.py LIBRARY WHEN`: request tokens in green threads; print digests.

LIBRARY is gevent or eventlet. WHEN is the moment of monkey patching: before-import, after-import
(after a credential was created) or after-use (after it has fetched a token). The program also
counts how often another green thread runs while the tokens are fetched.
"""

from __future__ import annotations

import json
import sys
import warnings

LIBRARY, WHEN = sys.argv[1:]
GREEN_THREADS = 8


def patch() -> None:
    """Patch the standard library."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both warn of modules that were imported before
        if LIBRARY == "gevent":
            from gevent import monkey

            monkey.patch_all()
        else:
            import eventlet

            eventlet.monkey_patch()


if WHEN == "before-import":
    patch()

from token_jobs import SCOPES, sync_job  # noqa: E402 - after patching

from imds_identity import ManagedIdentityCredential  # noqa: E402


def run_all(*work):
    """Run functions in green threads and return their results."""
    if LIBRARY == "gevent":
        import gevent

        return [each.get() for each in gevent.joinall([gevent.spawn(each) for each in work])]
    import eventlet

    return [each.wait() for each in [eventlet.spawn(each) for each in work]]


def main() -> None:
    """Print the digests of all jobs, and the number of steps of the other green thread."""
    import time

    credential = ManagedIdentityCredential()
    if WHEN == "after-use":
        credential.get_token(SCOPES[0])
    if WHEN != "before-import":
        patch()
    remaining, steps = [GREEN_THREADS], [0]

    def job():
        try:
            return sync_job(credential)
        finally:
            remaining[0] -= 1

    def count():
        while remaining[0]:
            time.sleep(0.01)
            steps[0] += 1

    digests = run_all(*[job] * GREEN_THREADS, count)[:-1]
    digests.append(sync_job())
    print(json.dumps({"digests": digests, "steps": steps[0]}))


if __name__ == "__main__":
    main()
