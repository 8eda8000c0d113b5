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


def _code_link(code: str) -> str:
    return VAULT_LINK if code.startswith("AKV") else CODES_LINK


def _code_page(code: str) -> str:
    return f"{_SITE}/troubleshooting/#{code.lower()}"


def list_checks() -> list[str]:
    """Return one line for each check."""
    return [f"{number} {entry.title}: {entry.looked_at}" for number, entry in CATALOG.items()]


def describe(name: str = "") -> list[dict[str, str]]:
    """Return the facts of a check or an error code for JSON; without ``name``, of all checks."""
    if (number := name.strip().upper()) in CODES:
        return [{"id": number, **CODES[number]._asdict(), "link": _code_link(number),
                 "page": _code_page(number)}]  # fmt: skip
    numbers = [check_number(name)] if name else CATALOG
    return [
        {"id": number, "category": category_of(number), **CATALOG[number]._asdict(),
         "page": page_of(number)}
        for number in numbers
    ]  # fmt: skip


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
        return (
            f"{number}\n\nCause     {code.meaning}.\nRemedy    {code.remedy}\n"
            f"See       {_code_link(number)}\n          {_code_page(number)}"
        )
    raise ValueError(
        f"unknown check or code {name!r}: imds-identity doctor --list shows all checks"
    )
