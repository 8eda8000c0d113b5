"""The api-versions that the metadata service knows, and what came with them."""

from __future__ import annotations

API_VERSIONS = (
    "2017-03-01",
    "2017-04-02",
    "2017-08-01",
    "2017-10-01",
    "2017-12-01",
    "2018-02-01",
    "2018-04-02",
    "2018-10-01",
    "2019-02-01",
    "2019-03-11",
    "2019-04-30",
    "2019-06-01",
    "2019-06-04",
    "2019-08-01",
    "2019-08-15",
    "2019-11-01",
    "2020-06-01",
    "2020-07-15",
    "2020-09-01",
    "2020-10-01",
    "2020-12-01",
    "2021-01-01",
    "2021-02-01",
    "2021-03-01",
    "2021-05-01",
    "2021-08-01",
    "2021-10-01",
    "2021-11-01",
    "2021-11-15",
    "2021-12-13",
    "2023-07-01",
    "2023-11-15",
    "2024-03-15",
    "2024-07-17",
    "2025-04-07",
)
NEWEST_ON_STACK_HUB = "2021-05-01"
_LISTED_IN_ERRORS = 3


def supported_versions(newest: str | None = None) -> list[str]:
    """The versions that a region knows.

    Args:
        newest: the newest one that it knows; every one when left out.

    Returns:
        The versions, oldest first.

    Raises:
        ValueError: if no such version was ever published.
    """
    if newest is None:
        return list(API_VERSIONS)
    if newest not in API_VERSIONS:
        raise ValueError(f"newest_version: {newest} was never one; the newest is 2025-04-07.")
    return [version for version in API_VERSIONS if version <= newest]


def version_complaint(asked: str | None, introduced: str, supported: list[str]) -> str | None:
    """Say what is wrong with an api-version.

    Args:
        asked: what the request gave, if anything.
        introduced: the version that introduced the category asked for.
        supported: what the region knows.

    Returns:
        The complaint, or None when the version is good.
    """
    if not asked:
        return "Bad request. api-version was not specified in the request"
    if asked not in supported:
        return "Bad request. api-version is invalid or not supported in this region"
    if asked < introduced:
        return f"Bad request. api-version must be {introduced} or newer for this request"
    return None


def newest_versions(supported: list[str]) -> list[str]:
    """What an error lists for the client to fall back to, newest first."""
    return sorted(supported, reverse=True)[:_LISTED_IN_ERRORS]
