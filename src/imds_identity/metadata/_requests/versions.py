"""The api-versions of the metadata service: which there are, what came with them, which to use.

https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service#versions
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

KNOWN = (
    *("2017-03-01", "2017-04-02", "2017-08-01", "2017-10-01", "2017-12-01"),
    *("2018-02-01", "2018-04-02", "2018-10-01"),
    *("2019-02-01", "2019-03-11", "2019-04-30", "2019-06-01", "2019-06-04"),
    *("2019-08-01", "2019-08-15", "2019-11-01"),
    *("2020-06-01", "2020-07-15", "2020-09-01", "2020-10-01", "2020-12-01"),
    *("2021-01-01", "2021-02-01", "2021-03-01", "2021-05-01", "2021-08-01"),
    *("2021-10-01", "2021-11-01", "2021-11-15", "2021-12-13"),
    *("2023-07-01", "2023-11-15", "2024-03-15", "2024-07-17", "2025-04-07"),
)
"""Oldest first. Newer ones are not in every region."""

EVENTS_KNOWN = (
    *("2017-03-01", "2017-08-01", "2017-11-01"),
    *("2019-01-01", "2019-04-01", "2019-08-01", "2020-07-01"),
)
"""Those of scheduled events, which has some of its own."""

INTRODUCED = {
    "instance": "2017-03-01",
    "scheduledevents": "2017-03-01",
    "identity": "2018-02-01",
    "attested": "2018-10-01",
    "loadbalancer": "2020-10-01",
}
"""The version that each category came with."""

_VERSION = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def known_to(category: str) -> tuple[str, ...]:
    """The versions of ``category``, oldest first."""
    known = EVENTS_KNOWN if category == "scheduledevents" else KNOWN
    return tuple(version for version in known if version >= INTRODUCED[category])


def newest_of_both(known: Iterable[str], offered: Iterable[object]) -> str | None:
    """The newest version that both sides know.

    Args:
        known: our side's versions.
        offered: what the service lists, all or its newest ones.

    Returns:
        The newest in both lists. If there is none, which happens where only the newest three are
        listed, the newest of ours that is older than what the service lists: services go on
        knowing old ones. None if ours are all newer.
    """
    theirs = {each for each in offered if isinstance(each, str) and _VERSION.fullmatch(each)}
    ours = set(known)
    if not theirs:
        return None
    return max(ours & theirs, default=None) or max(
        (version for version in ours if version <= max(theirs)), default=None
    )


def checked(version: str) -> str:
    """``version``, if it can be one.

    Raises:
        ValueError: if it cannot.
    """
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise ValueError(f"api_version must look like 2021-12-13, not {version!r}")
    return version
