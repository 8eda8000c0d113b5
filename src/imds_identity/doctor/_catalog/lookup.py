"""Looks up checks and error codes by their names, for the command line."""

from __future__ import annotations

from .checks import CATALOG, CODES_LINK, VAULT_LINK
from .codes import CODES

_SITE = "https://imds-identity.readthedocs.io"
# By the first four characters of a check's ID.
_CATEGORIES = {
    "II00": "settings", "II01": "host", "II02": "network", "II03": "Azure Arc agent",
    "II04": "service", "II05": "identity", "II06": "token", "II07": "time",
    "II08": "shared token cache", "II09": "system",
}  # fmt: skip


def category_of(number: str) -> str:
    """Return the category of the check with the ID ``number``."""
    return _CATEGORIES[number[:4]]


def page_of(number: str) -> str:
    """Return the link to the check with the ID ``number`` in this package's documentation."""
    return f"{_SITE}/doctor/#{number.lower()}"


def list_checks() -> list[str]:
    """Return one line for each check."""
    return [f"{number} {entry.title}: {entry.looked_at}" for number, entry in CATALOG.items()]


def check_number(name: str) -> str:
    """Return the ID of a check, in upper case; raise ValueError if there is none."""
    number = name.strip().upper()
    if number not in CATALOG:
        raise ValueError(f"unknown check {name!r}: imds-identity doctor --list shows all checks")
    return number


def explain_check(name: str) -> str:
    """Return the explanation of a check or an error code, in upper or lower case."""
    number = name.strip().upper()
    if number in CATALOG:
        entry = CATALOG[number]
        return (
            f"{number}: {entry.title}\n\nLooks at  {entry.looked_at}.\nCause     {entry.cause}\n"
            f"Evidence  {entry.evidence}\nRemedy    {entry.remedy}\nSee       {entry.link}\n"
            f"          {page_of(number)}"
        )
    if number in CODES:
        code = CODES[number]
        link = VAULT_LINK if number.startswith("AKV") else CODES_LINK
        return (
            f"{number}\n\nCause     {code.meaning}.\nRemedy    {code.remedy}\nSee       {link}\n"
            f"          {_SITE}/troubleshooting/#{number.lower()}"
        )
    raise ValueError(
        f"unknown check or code {name!r}: imds-identity doctor --list shows all checks"
    )
