"""Checks of the token request and of the token's claims."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._core.failure import sanitize
from ._catalog.codes import CODES
from .finding import (
    CODE,
    Verdict,
    argument,
    failure,
    is_plain_sentence,
    ok,
    skipped,
    unknown,
)

if TYPE_CHECKING:
    from ._facts.facts import Facts

_SHOWN_CLAIMS = ("aud", "tid", "oid", "appid", "azp", "xms_mirid", "roles", "idtyp")


def check_error_code(facts: Facts) -> Verdict:
    """Check whether the service's error response contains a code of Microsoft Entra ID."""
    problem = facts.probe.failure
    if problem is None or not problem.service_code:
        return skipped("no response contains an error code")
    code, seen = problem.service_code, sanitize(problem.problem)
    known = CODES.get(code)
    if known is None:
        number = argument(code.removeprefix("AADSTS"), CODE)
        url = f"https://login.microsoftonline.com/error?code={number}"
        return failure(seen, f"Microsoft Entra ID returned {code}", f"see {url}")
    return failure(seen, f"{code}: {known.meaning}", known.remedy)


def check_token_request(facts: Facts) -> Verdict:
    """Check whether the token request succeeds; if not, repeat the error message."""
    probe = facts.probe
    if probe.claims is not None:
        return ok(f"a token for {sanitize(facts.resource)} after {len(probe.requests)} requests")
    if probe.failure is None:
        return skipped("no token was requested")
    hint = probe.failure.hint
    remedy = hint if is_plain_sentence(hint) else "see the error message"
    return failure(str(probe.failure), probe.failure.problem, remedy)


def check_token_claims(facts: Facts) -> Verdict:
    """Show the token's claims, which explain why a resource rejects the token."""
    claims = facts.probe.claims
    if claims is None:
        return skipped("there is no token")
    if not claims:
        return unknown("the token is not a JWT, so its claims cannot be read")
    seen = ", ".join(f"{name} {_show(claims[name])}" for name in _SHOWN_CLAIMS if name in claims)
    return ok(
        seen,
        "if the resource still returns 401 or 403: 401 means that the token's audience or tenant "
        "is wrong; 403 means that this object ID has no role or access policy there, or that the "
        "resource's firewall blocks the request",
    )


def _show(value: object) -> str:
    return sanitize(" ".join(map(str, value)) if isinstance(value, list) else str(value), 200)
