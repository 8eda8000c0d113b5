"""The api-versions of the metadata service."""

from __future__ import annotations

API_VERSIONS = (
    "2017-03-01", "2017-04-02", "2017-08-01", "2017-10-01", "2017-12-01",
    "2018-02-01", "2018-04-02", "2018-10-01",
    "2019-02-01", "2019-03-11", "2019-04-30", "2019-06-01", "2019-06-04", "2019-08-01",
    "2019-08-15", "2019-11-01",
    "2020-06-01", "2020-07-15", "2020-09-01", "2020-10-01", "2020-12-01",
    "2021-01-01", "2021-02-01", "2021-03-01", "2021-05-01", "2021-08-01", "2021-10-01",
    "2021-11-01", "2021-11-15", "2021-12-13", "2023-07-01", "2023-11-15",
    "2024-03-15", "2024-07-17", "2025-04-07", "2025-11-11", "2025-11-15",
)  # fmt: skip
NEWEST_ON_STACK_HUB = "2021-05-01"
_LISTED_IN_ERRORS = 3


def supported_versions(newest: str | None = None) -> list[str]:
    """Return the versions up to the newest one, oldest first; ValueError if it is unknown."""
    if newest is None:
        return list(API_VERSIONS)
    if newest not in API_VERSIONS:
        raise ValueError(
            f"newest_version: there is no api-version {newest}; the newest is {API_VERSIONS[-1]}."
        )
    return [version for version in API_VERSIONS if version <= newest]


def version_error(requested: str | None, introduced: str, supported: list[str]) -> str | None:
    """Return the error message for a requested api-version, or None if it is valid."""
    if not requested:
        return "Bad request. api-version was not specified in the request"
    if requested not in supported:
        return "Bad request. api-version is invalid or not supported in this region"
    if requested < introduced:
        return f"Bad request. api-version must be {introduced} or newer for this request"
    return None


def newest_versions(supported: list[str]) -> list[str]:
    """Return the versions to list in an error, newest first."""
    return sorted(supported, reverse=True)[:_LISTED_IN_ERRORS]
