"""Limits that callers, pages and processes of other versions rely on: changes are deliberate."""

from __future__ import annotations

import pytest

from imds_identity._core import claims, freshness
from imds_identity._http import messages
from imds_identity._platform import fork, log
from imds_identity._shared_cache import lease, rate_limit, record, sweep, watchdog
from imds_identity._token_cache import cache, entry, flight, negative_cache, pool
from imds_identity.metadata import aio

# Processes of different versions share leases, pauses, records and the service's limits.
SHARED = {
    "the first lease, in seconds": (lease.FIRST_LEASE_SECONDS, 5),
    "the longest lease": (lease.LONGEST_LEASE_SECONDS, 180),
    "the longest cooldown": (lease.LONGEST_COOLDOWN, 5),
    "the longest pause": (rate_limit.LONGEST_PAUSE, 120),
    "token requests at once and per second": (tuple(rate_limit.IDENTITY_LIMITS), (4, 16)),
    "metadata requests at once and per second": (tuple(rate_limit.METADATA_LIMITS), (None, 4)),
    "the digits of a file name": (record.DIGEST_LENGTH, 40),
    "the number of records": (sweep.MOST_RECORDS, 1000),
}
# For how long a call can take, and what it can return in the meantime.
CALLS = {
    "a connection": (messages.CONNECT_SECONDS, 2),
    "a request": (messages.REQUEST_SECONDS, 12),
    "the bytes of a body": (messages.MAX_BODY, 262144),
    "an exchange": (flight.LONGEST_EXCHANGE, 100),
    "a fetch": (flight.LONGEST_FETCH, 180),
    "a hit without another check": (cache.HIT_SECONDS, 1),
    "a poll of a waiting caller": (flight.POLL_SECONDS, 0.5),
    "the flights of one call": (cache.TRIES, 3),
    "the threads for one endpoint": (pool.MOST_WORKERS, 8),
    "a stall of these threads": (pool.STALL_SECONDS, 5),
    "a log call": (log.LOG_SECONDS, 1),
    "a log call during a fork": (fork.FORK_SECONDS, 10),
    "an operation on the shared directory": (watchdog.SLOW_SECONDS, 3),
    "the time without the shared directory": (watchdog.SKIP_SECONDS, 60),
    "a remembered failure": (freshness.FAILURE_SECONDS, 2),
    "an answered challenge": (claims.ANSWER_SECONDS, 30),
    "an endpoint that does not exist": (negative_cache.UNAVAILABLE_SECONDS, 30),
    "an endpoint that may exist": (negative_cache.FIRST_UNCERTAIN_SECONDS, 2),
    "the threads for metadata": (aio.MOST_THREADS, 32),
    "an entry that nobody uses": (entry.UNUSED_SECONDS, 10),
}


@pytest.mark.parametrize("what", [*SHARED, *CALLS])
def test_limit_is_unchanged(what: str) -> None:
    limit, expected = {**SHARED, **CALLS}[what]
    assert limit == expected
