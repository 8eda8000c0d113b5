"""Checks of the token request and of the token's claims."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .._core.failure import sanitize
from ..metadata.clouds import CLOUDS, GERMANY
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

# Azure Resource Manager accepts both audiences.
_MANAGERS = frozenset(("management.azure.com", "management.core.windows.net"))
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
    audience = claims.get("aud")
    if isinstance(audience, str) and _is_other(audience, facts.resource):
        return failure(
            seen,
            f"the token is for another audience: {_show(audience)}, not "
            f"{sanitize(facts.resource)}{_cloud_note(audience, facts.resource)}",
            "use the resource of this cloud; or find the server that issued the token: curl -sv "
            "--noproxy '*' -H Metadata:true http://169.254.169.254/metadata/versions",
        )
    return ok(
        seen,
        "if the resource still returns 401 or 403: 401 means that the token's audience or tenant "
        "is wrong; 403 means that this object ID has no role or access policy there, or that the "
        "resource's firewall blocks the request",
    )


def _is_other(audience: str, resource: str) -> bool:
    """Return whether both are URLs of different hosts; other forms cannot be compared."""
    hosts = [_host_of(each) for each in (audience, resource)]
    return all(hosts) and hosts[0] != hosts[1] and not _MANAGERS.issuperset(hosts)


def _host_of(url: str) -> str:
    try:
        return urlsplit(url.lower()).hostname or ""
    except ValueError:
        return ""


def _cloud_note(audience: str, resource: str) -> str:
    """Return a note if the audience is the same service's in another cloud."""
    for cloud in (*CLOUDS, GERMANY):
        managers = urlsplit(cloud.resource_manager).hostname, cloud.key_vault_suffix
        if _host_of(audience) in managers and _host_of(resource) not in managers:
            return f", which belongs to {cloud.name}"
    return ""


def _show(value: object) -> str:
    return sanitize(" ".join(map(str, value)) if isinstance(value, list) else str(value), 200)
