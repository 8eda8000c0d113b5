"""Checks of the token request, the token's claims, cached tokens and this machine's clock."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .._core.failure import Reason, sanitize
from .._core.source import ARC, IMDS
from .._sources.app_hosts.spec import AppHostSpec
from ..metadata.clouds import CLOUDS, GERMANY
from ._catalog.codes import CODES
from .finding import (
    CODE,
    PATH,
    Verdict,
    argument,
    failure,
    is_plain_sentence,
    ok,
    skipped,
    unknown,
    warning,
)
from .host import identity_command, own_remedy, restart_command

if TYPE_CHECKING:
    from ._facts.facts import Facts

# Azure Resource Manager accepts both audiences.
_MANAGERS = frozenset(("management.azure.com", "management.core.windows.net"))
_SHOWN_CLAIMS = ("aud", "tid", "oid", "appid", "azp", "xms_mirid", "roles", "idtyp")
_MAX_SHOWN = 3
_OTHER_CACHE = "unset IMDS_IDENTITY_CACHE"
_DENIALS = (401, 403)


_TOLERANCE = 60.0
ALLOWED_SKEW = 300.0
"""The clock difference, in seconds, that Azure's services accept when they validate a token."""
CLOCK_REMEDY = "chronyc tracking; sudo chronyc makestep # Windows: w32tm /resync /force"


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
        return failure(seen, f"Microsoft Entra ID returned {code}: {seen}", f"see {url}")
    return failure(seen, f"{code}: {known.meaning}", known.remedy)


def check_token_request(facts: Facts) -> Verdict:
    """Check whether the token request succeeds; if not, repeat the error message."""
    probe = facts.probe
    if probe.claims is not None:
        return ok(f"a token for {sanitize(facts.resource)} after {len(probe.requests)} requests")
    if probe.failure is None:
        return skipped("no token was requested")
    if probe.failure.reason is Reason.REFUSED and probe.failure.status in _DENIALS:
        return failure(str(probe.failure), *_denial(facts, probe.failure.problem))
    if probe.failure.reason is Reason.UNSUPPORTED and facts.identity.selector:
        flag = facts.identity.selector.replace("_", "-")
        remedy = f"imds-identity doctor # without --{flag}; in a program, without "
        remedy += facts.identity.selector
        return failure(str(probe.failure), probe.failure.problem, remedy)
    hint = probe.failure.hint
    remedy = hint if hint and is_plain_sentence(hint) else "see the error message"
    return failure(str(probe.failure), probe.failure.problem, remedy)


def _denial(facts: Facts, problem: str) -> tuple[str, str]:
    """Return why the service refuses with HTTP 401 or 403, and the remedy."""
    source, spec = facts.source, facts.source.spec
    if source.name == ARC:
        meaning = f"the Azure Arc agent refuses to issue a token, and its log shows why: {problem}"
        return meaning, "sudo azcmagent check; sudo tail /var/opt/azcmagent/log/himds.log"
    if isinstance(spec, AppHostSpec) and spec.secret_variable:
        meaning = f"{source.label} rejects the value of {spec.secret_variable}, which is another "
        meaning += f"process's or is outdated: {problem}"
        unset = f"unset {source.settings_to_unset}"
        return meaning, f"{restart_command(facts) or unset} # or correct {spec.secret_variable}"
    if source.name == IMDS:
        meaning = "the metadata service refuses to issue a token for this identity, as for one "
        meaning += f"that a policy blocks: {problem}"
        show = identity_command(facts, "show")
        return meaning, own_remedy(facts) or f"{show} # report it with this output"
    return problem, "see the error message"


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


def clock_offset(facts: Facts) -> float | None:
    """Return by how many seconds this machine's clock is ahead; None if unknown."""
    offsets = [r.clock_offset for r in facts.probe.requests if r.clock_offset is not None]
    return min(offsets, key=abs, default=None)


def check_clock(facts: Facts) -> Verdict:
    """Check this machine's clock against the Date header of the service's responses."""
    offset = clock_offset(facts)
    if offset is None:
        return unknown("no response has a Date header")
    direction = "ahead of" if offset > 0 else "behind"
    seen = f"{abs(offset):.0f} s {direction} the service's Date header"
    if abs(offset) <= _TOLERANCE:
        return ok(seen)
    meaning = (
        f"this machine's clock is {_duration(offset)} {'fast' if offset > 0 else 'slow'}: other "
        "clients may use expired tokens or skip their token caches, and services reject signatures"
    )
    return (failure if abs(offset) >= ALLOWED_SKEW else warning)(seen, meaning, CLOCK_REMEDY)


def _duration(seconds: float) -> str:
    return f"{abs(seconds) / 60:.0f} minutes" if abs(seconds) >= 120 else f"{abs(seconds):.0f} s"


def check_token_validity(facts: Facts) -> Verdict:
    """Check the token's ``nbf`` and ``exp`` against the service's clock."""
    claims = facts.probe.claims
    if claims is None:
        return skipped("there is no token")
    not_before, expiry = claims.get("nbf"), claims.get("exp")
    if not isinstance(not_before, int | float) or not isinstance(expiry, int | float):
        return unknown("the token has no nbf or no exp claim")
    now = facts.system.wall_time - (clock_offset(facts) or 0.0)
    seen = f"nbf was {round(now - not_before)} s ago, exp is in {round(expiry - now)} s"
    if expiry <= now or not_before > now + ALLOWED_SKEW:
        return failure(
            seen,
            "the service issued a token that is not valid now, according to its nbf and exp claims",
            "compare the clock with another machine: date -u; then report it with this output",
        )
    return ok(seen)


def check_cache_directory(facts: Facts) -> Verdict:
    """Check that the cache directory can be used."""
    cache = facts.cache
    if cache.is_off:
        return ok("off: each process fetches its own tokens")
    if not cache.problem:
        return ok(sanitize(cache.path))
    if not cache.path:
        return ok(cache.problem)
    path = sanitize(cache.path)
    return warning(
        f"{path}: {cache.problem}",
        f"the directory {path} cannot be used for the shared token cache: {cache.problem}; each "
        "process fetches its own tokens",
        f"chmod 700 {argument(cache.path, PATH)} # or: export IMDS_IDENTITY_CACHE=off"
        if cache.is_own
        else f"{_OTHER_CACHE} # the default directory, or one of this user with mode 700",
    )


def check_cache_contents(facts: Facts) -> Verdict:
    """Show the cached tokens and failures."""
    cache = facts.cache
    if cache.is_off or cache.problem or not cache.path:
        return skipped("there is no shared token cache")
    parts = [
        f"{token.resource} for {token.selector}, {token.seconds_left:.0f} s left"
        for token in cache.tokens[:_MAX_SHOWN]
    ]
    more = len(cache.tokens) - len(parts)
    parts += [f"{more} more"] if more > 0 else []
    parts += [f"{cache.failures} cached failures"] if cache.failures else []
    return ok("; ".join(parts) or "empty")
