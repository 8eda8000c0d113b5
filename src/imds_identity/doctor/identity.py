"""Checks of the identity that the token was requested for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._core.failure import Reason
from .._core.source import ARC
from .._sources.app_hosts.azure_ml import AZURE_ML
from .._sources.workload_identity import WORKLOAD_IDENTITY
from .finding import (
    CLIENT_ID,
    OBJECT_ID,
    RESOURCE_GROUP,
    RESOURCE_ID,
    WORKSPACE,
    Verdict,
    argument,
    failure,
    ok,
    skipped,
)
from .host import has_app_identity, identity_command, look_up, own_remedy

if TYPE_CHECKING:
    from .._core.failure import Failure
    from .._core.identity import Identity
    from ._facts.facts import Facts

_ML_COMPUTE = "--name COMPUTE --resource-group {group} --workspace-name {workspace}"
_NOT_ABOUT_IDENTITY = (Reason.UNKNOWN_RESOURCE, Reason.IDENTITY_DELETED, Reason.ENTRA_REFUSED)


def is_about_identity(problem: Failure) -> bool:
    """Return whether the service refused the identity or the resource of the request."""
    return problem.status == 400 or problem.reason is Reason.IDENTITY_NOT_FOUND


def check_identity_assigned(facts: Facts) -> Verdict:
    """Check whether the identity is assigned to this machine."""
    probe, problem = facts.probe, facts.probe.failure
    if probe.claims is not None:
        return ok(f"{facts.source.resolve(facts.identity)}: the service issued a token")
    if problem is None or not is_about_identity(problem):
        return skipped("the response is not about the identity")
    if facts.source.name == AZURE_ML.name and problem.reason is not Reason.UNKNOWN_RESOURCE:
        return _compute_without_identity(facts, problem)
    if not (facts.source.is_per_machine or has_app_identity(facts)):
        return skipped("the response is not about an identity that can be assigned")
    if problem.reason in _NOT_ABOUT_IDENTITY:
        return skipped("the response is not about an identity assignment")
    return _missing_identity(facts, problem)


def _compute_without_identity(facts: Facts, problem: Failure) -> Verdict:
    """Return the verdict on the identity of Azure Machine Learning's compute."""
    compute = _ML_COMPUTE.format(
        group=argument(facts.environment["AZUREML_ARM_RESOURCEGROUP"], RESOURCE_GROUP),
        workspace=argument(facts.environment["AZUREML_ARM_WORKSPACE_NAME"], WORKSPACE),
    )
    show = f"az ml compute show {compute} --query identity"
    identity = facts.source.resolve(facts.identity)
    if not identity.selector:
        return failure(
            f"DEFAULT_IDENTITY_CLIENT_ID is not set; {problem.problem}",
            "Azure Machine Learning requires the client ID of the identity, even of the "
            "system-assigned one",
            f"{show} # then select it: --client-id CLIENT_ID",
        )
    if problem.reason is not Reason.IDENTITY_NOT_FOUND:
        return skipped("the response is not about the identity")
    return failure(
        problem.problem,
        f"the compute of Azure Machine Learning has no managed identity with {identity}",
        f"{show} # then correct the client ID, or: az ml compute update {compute} --identity-type "
        f"user_assigned --user-assigned-identities {_selected_identity(identity)}",
    )


def _missing_identity(facts: Facts, problem: Failure) -> Verdict:
    seen = problem.problem
    own, show = own_remedy(facts), identity_command(facts, "show")
    select = own or f"{show} # then select one: --client-id {_suggested_client_id(facts)}"
    correct = own or f"{show} # then correct the selector"
    if facts.source.name != ARC and not own:
        correct += f", or: {identity_command(facts, 'assign', _selected_identity(facts.identity))}"
    if facts.probe.default_identity_works:
        return failure(
            f"{facts.identity}: {seen}; a token request without a selector succeeds",
            f"the machine has no identity with {facts.identity}, but its default identity works",
            correct,
        )
    if problem.reason is Reason.MULTIPLE_IDENTITIES:
        return failure(
            seen,
            "the machine has several user-assigned identities, and the request selects none",
            select,
        )
    if facts.identity.selector:
        return failure(
            f"{facts.identity}: {seen}",
            f"the machine has no identity with {facts.identity}: it was never assigned, was "
            "removed, or was deleted and recreated with another ID",
            correct,
        )
    if problem.reason is Reason.IDENTITY_NOT_FOUND and has_app_identity(facts):
        # The host sets the variables only for apps with an identity.
        return failure(
            seen,
            "the app has no system-assigned identity, and the request selects no user-assigned one",
            f"{select}, or: {identity_command(facts, 'assign')}",
        )
    if problem.reason is Reason.IDENTITY_NOT_FOUND:
        remedy = own_remedy(facts) or identity_command(facts, "assign")
        return failure(seen, "the machine has no managed identity", remedy)
    return skipped("the response is not about the identity")


def _selected_identity(identity: Identity) -> str:
    """Return the resource ID of the selected identity, or the substitution that looks it up."""
    selector, value = identity
    if selector == "resource_id":
        return argument(value, RESOURCE_ID)
    kind = CLIENT_ID if selector == "client_id" else OBJECT_ID
    if argument(value, kind) == kind.placeholder:
        return RESOURCE_ID.placeholder
    return look_up("clientId" if selector == "client_id" else "principalId", value, "id")


def _suggested_client_id(facts: Facts) -> str:
    return '"$AZURE_CLIENT_ID"' if facts.environment["AZURE_CLIENT_ID"] else "ID"


def check_identity_recreated(facts: Facts) -> Verdict:
    """Check whether the identity was deleted and recreated while old tokens are in use."""
    problem = facts.probe.failure
    is_deleted = problem is not None and problem.reason is Reason.IDENTITY_DELETED
    if problem is not None and is_deleted and facts.source.name != WORKLOAD_IDENTITY.name:
        return failure(
            problem.problem,
            f"the machine's identity does not exist in its tenant ({problem.service_code}): it "
            "was deleted, and possibly recreated",
            own_remedy(facts)
            or f"{identity_command(facts, 'show')} # then remove it and assign it again: "
            f"{identity_command(facts, 'remove', 'ID')}; {identity_command(facts, 'assign', 'ID')}",
        )
    claims = facts.probe.claims
    if claims is None:
        return skipped("there is no token to compare")
    new = str(claims.get("oid", ""))
    wanted = str(facts.identity), facts.source.key_endpoint
    cached = {t.object_id for t in facts.cache.tokens if (t.selector, t.endpoint) == wanted}
    if new and (old := sorted(cached - {new, ""})):
        return failure(
            f"a new token has object ID {new}, a token in the shared token cache has {old[0]}",
            f"{facts.identity} was deleted and recreated: the shared token cache still has tokens "
            "of the old identity, which resources reject",
            "imds-identity cache clear; then restart the processes that hold a token in memory, "
            f"and assign the roles to the new object ID {argument(new, OBJECT_ID)}",
        )
    return ok("no cached token has another object ID")
