"""Checks of the token that was given, or was not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._core.failure import sanitize
from .codes import CODES, code_in
from .finding import Verdict, failure, ok, skipped, unknown

if TYPE_CHECKING:
    from ._facts.facts import Facts

_SHOWN = ("aud", "tid", "oid", "appid", "azp", "xms_mirid", "roles", "idtyp")


def no_code_was_given(facts: Facts) -> Verdict:
    """What Microsoft Entra ID's code means."""
    problem = facts.contact.failure
    code = code_in(problem.problem) if problem else ""
    if not code:
        return skipped("no answer has one")
    known = CODES.get(code)
    said = sanitize(problem.problem) if problem else ""
    if known is None:
        where = f"https://login.microsoftonline.com/error?code={code.removeprefix('AADSTS')}"
        return failure(said, f"Microsoft Entra ID refuses with {code}", f"see {where}")
    return failure(said, f"{code}: {known.meaning}", known.remedy)


def token_is_given(facts: Facts) -> Verdict:
    """Whether there is a token, and in the failure's own words why there is none."""
    contact = facts.contact
    if contact.claims is not None:
        return ok(f"a token for {sanitize(facts.resource)} after {len(contact.requests)} requests")
    if contact.failure is None:
        return skipped("none was asked for")
    return failure(str(contact.failure), contact.failure.problem, contact.failure.hint)


def token_is_decoded(facts: Facts) -> Verdict:
    """What the token says of itself; that tells "403 from Key Vault" from "no token"."""
    claims = facts.contact.claims
    if claims is None:
        return skipped("there is no token")
    if not claims:
        return unknown("the token cannot be read: it is no JWT")
    said = ", ".join(f"{name} {_told(claims[name])}" for name in _SHOWN if name in claims)
    return ok(
        said,
        "if the resource still answers 401 or 403: 401 is about the token (its audience, its "
        "tenant), 403 about this object id's rights there (role or access policy) or the "
        "resource's firewall",
    )


def _told(value: object) -> str:
    return sanitize(" ".join(map(str, value)) if isinstance(value, list) else str(value), 200)
