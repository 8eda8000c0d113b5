"""The API versions of the metadata service, and the choice between them.

https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service#versions
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

KNOWN_VERSIONS = (
    *("2017-03-01", "2017-04-02", "2017-08-01", "2017-10-01", "2017-12-01"),
    *("2018-02-01", "2018-04-02", "2018-10-01"),
    *("2019-02-01", "2019-03-11", "2019-04-30", "2019-06-01", "2019-06-04"),
    *("2019-08-01", "2019-08-15", "2019-11-01"),
    *("2020-06-01", "2020-07-15", "2020-09-01", "2020-10-01", "2020-12-01"),
    *("2021-01-01", "2021-02-01", "2021-03-01", "2021-05-01", "2021-08-01"),
    *("2021-10-01", "2021-11-01", "2021-11-15", "2021-12-13"),
    *("2023-07-01", "2023-11-15", "2024-03-15", "2024-07-17", "2025-04-07"),
    *("2025-11-11", "2025-11-15"),
)
"""Oldest first. The newest are not available in every region."""

KNOWN_EVENTS_VERSIONS = (
    *("2017-08-01", "2017-11-01"),
    *("2019-01-01", "2019-04-01", "2019-08-01", "2020-07-01"),
)
"""Scheduled events have separate versions. In 2017-03-01, names began with an underscore."""

INTRODUCED_IN = {
    "instance": "2017-03-01",
    "scheduledevents": "2017-08-01",
    "identity": "2018-02-01",
    "attested": "2018-10-01",
    "loadbalancer": "2020-10-01",
}
"""The first version with each category."""

# Versions that every region has; the rest of `KNOWN_VERSIONS` would take too many attempts.
_WIDESPREAD = ("2021-02-01", "2019-06-01")
_VERSION = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def versions_of(category: str) -> tuple[str, ...]:
    """Return the known versions of ``category``, oldest first."""
    known = KNOWN_EVENTS_VERSIONS if category == "scheduledevents" else KNOWN_VERSIONS
    return tuple(version for version in known if version >= INTRODUCED_IN[category])


def widespread_versions(category: str) -> tuple[str, ...]:
    """Return versions to try at a service that refuses the newest and lists none, newest first."""
    known = versions_of(category)
    return (*(each for each in _WIDESPREAD if each in known), known[0])


def versions_in(text: str) -> list[str]:
    """Return the versions that a text mentions, as in the error responses of Azure Arc's agent."""
    return _VERSION.findall(text)


def is_version(value: object) -> bool:
    """Return whether ``value`` is a well-formed version, known or not."""
    return isinstance(value, str) and _VERSION.fullmatch(value) is not None


def newest_common_version(known: Iterable[str], offered: Iterable[object]) -> str | None:
    """Return the newest version that both sides support, or None.

    A service may list only its newest versions. If all of these are unknown, return the newest
    known version that is older: services keep supporting old versions.
    """
    theirs = {str(each) for each in offered if is_version(each)}
    ours = set(known)
    if not theirs:
        return None
    return max(ours & theirs, default=None) or max(
        (version for version in ours if version <= max(theirs)), default=None
    )


def validated_version(version: str) -> str:
    """Return ``version`` if it is well-formed."""
    if not is_version(version):
        raise ValueError(f"api_version must look like 2021-12-13, not {version!r}")
    return version
