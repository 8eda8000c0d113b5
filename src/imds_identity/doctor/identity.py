"""Checks of whose token was asked for."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from .._core.source import ARC
from .finding import Verdict, failure, ok, skipped

if TYPE_CHECKING:
    from ._facts.facts import Facts

_GONE = ("AADSTS700016", "AADSTS7000112")
_NAMES = (
    ("subscriptionId", "--subscription", ""),
    ("resourceGroupName", "--resource-group", "GROUP"),
    ("name", "--name", "VM"),
)


def _az(verb: str, facts: Facts) -> str:
    """The command that shows or assigns this very machine's identities."""
    if facts.source.name == ARC:
        return "azcmagent show" if verb == "show" else "sudo azcmagent connect"
    compute = (facts.contact.document or {}).get("compute")
    known = compute if isinstance(compute, dict) else {}
    scale_set = known.get("vmScaleSetName")
    words = [f"az {'vmss' if scale_set else 'vm'} identity {verb}"]
    for name, flag, otherwise in _NAMES:
        value = scale_set if scale_set and name == "name" else known.get(name)
        said = shlex.quote(value) if isinstance(value, str) and value else otherwise
        words += [flag, said] if said else []
    return " ".join(words)


def identity_is_assigned(facts: Facts) -> Verdict:
    """Whether the machine has the identity."""
    contact = facts.contact
    if contact.claims is not None:
        return ok(f"{facts.identity} was given a token")
    problem = contact.failure
    if problem is None or problem.status != 400 or not facts.source.is_per_machine:
        return skipped("no answer was about the identity")
    said = problem.problem
    if "AADSTS" in said or "invalid_resource" in said:
        return skipped("the answer is about the resource, not the identity")
    if contact.default_works:
        return failure(
            f"{facts.identity}: {said}; without a selector there is a token",
            f"the machine has no identity with {facts.identity}; the one that needs no selector "
            "gets its token",
            f"{_az('show', facts)}; then correct the selector, or "
            f"{_az('assign', facts)} --identities RESOURCE_ID",
        )
    if "multiple" in said.lower():
        return failure(
            said,
            "the machine has several user-assigned identities and none was named",
            f"name one: --client-id ID; they are listed by: {_az('show', facts)}",
        )
    if facts.identity.selector:
        return failure(
            f"{facts.identity}: {said}",
            f"the machine has no identity with {facts.identity}: it was never assigned, was "
            "removed, or was deleted and made anew with another id",
            f"{_az('show', facts)}; then correct the selector, or "
            f"{_az('assign', facts)} --identities RESOURCE_ID",
        )
    if "not found" in said.lower():
        return failure(said, "the machine has no managed identity", _az("assign", facts))
    return skipped("the answer is not about the identity")


def identity_is_the_same(facts: Facts) -> Verdict:
    """Whether the identity was deleted and made anew, and old tokens are still about."""
    problem = facts.contact.failure.problem if facts.contact.failure else ""
    code = next((code for code in _GONE if code in problem), "")
    if code:
        return failure(
            problem,
            f"the machine's identity is unknown to its tenant ({code}): it was deleted, and maybe "
            "made anew",
            f"{_az('remove', facts)} --identities ID, then {_az('assign', facts)} --identities ID",
        )
    claims = facts.contact.claims
    if claims is None:
        return skipped("there is no token to compare")
    fresh = str(claims.get("oid", ""))
    same = [
        token
        for token in facts.shared.tokens
        if token.selector == str(facts.identity) and token.endpoint == facts.source.endpoint
    ]
    old = sorted({t.object_id for t in same if t.object_id and fresh and t.object_id != fresh})
    if old:
        return failure(
            f"a fresh token is of object {fresh}, the shared cache holds one of {old[0]}",
            f"{facts.identity} was deleted and made anew: tokens that processes still share are "
            "the old one's, which resources refuse",
            "imds-identity cache clear; then restart what holds a token in memory, and give the "
            f"new object id {fresh} its roles",
        )
    return ok("no token of another object is shared")
