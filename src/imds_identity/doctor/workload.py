"""Checks of workload identity: the pod's federated token, and the identity that it is for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._core.failure import sanitize
from .._sources.workload_identity import WORKLOAD_IDENTITY
from .finding import (
    ACCOUNT,
    CLIENT_ID,
    RESOURCE,
    SUBJECT,
    Verdict,
    argument,
    failure,
    ok,
    skipped,
    unknown,
)
from .token import clock_offset

if TYPE_CHECKING:
    from ._facts.facts import Facts, WorkloadToken

_WEBHOOK = (
    "label the pod azure.workload.identity/use=true, and check the webhook: "
    "kubectl get pods -n kube-system -l azure-workload-identity.io/system=true"
)
_FILE_GROUP = (
    "set securityContext.fsGroup of the pod to a group of that user (runAsUser, runAsGroup): "
    "kubectl explain pod.spec.securityContext.fsGroup"
)
_NEW_POD = "kubectl delete pod POD"
_ACCOUNT_PREFIX = "system:serviceaccount:"
_NO_FEDERATION = {
    "AADSTS70021": "",
    "AADSTS70023": "",
    "AADSTS700211": "the issuer of ",
    "AADSTS700212": "the audience of ",
    "AADSTS700213": "the subject of ",
    "AADSTS700216": "",
}


def check_workload_token(facts: Facts) -> Verdict:
    """Check that Kubernetes provides a valid federated token."""
    workload = facts.workload
    path = sanitize(workload.path)
    if facts.source.name != WORKLOAD_IDENTITY.name:
        return skipped("the token source is not workload identity")
    if workload.problem:
        return failure(f"{path}: {workload.problem}", *_file_problem(facts))
    if not facts.source.resolve(facts.identity).selector:
        account, namespace = _account_of(workload)
        return failure(
            f"AZURE_CLIENT_ID is not set (subject {workload.subject})",
            "AZURE_CLIENT_ID is not set: the pod's service account has no annotation "
            "azure.workload.identity/client-id",
            f"kubectl annotate serviceaccount {account} --namespace {namespace} "
            f"azure.workload.identity/client-id=CLIENT_ID; {_NEW_POD}",
        )
    if workload.expiry is None:
        return unknown(f"the token in {path} has no exp claim")
    offset = clock_offset(facts) or 0.0
    left = workload.expiry - facts.system.wall_time
    if left <= 0 < left + offset:
        return ok(f"the token in {path} expired only according to this machine's wrong clock")
    if left + offset <= 0:
        return failure(
            f"the token in {path} expired {-left:.0f} s ago (subject {workload.subject})",
            "the workload's federated token has expired, because Kubernetes no longer renews it",
            _NEW_POD,
        )
    return ok(f"the token in {path} expires in {left:.0f} s (subject {workload.subject})")


def _file_problem(facts: Facts) -> tuple[str, str]:
    """Return why the file with the federated token cannot be used, and the remedy."""
    workload = facts.workload
    in_pod = bool(facts.environment["KUBERNETES_SERVICE_HOST"] or facts.system.container)
    if workload.is_missing and not in_pod:
        meaning = "AZURE_FEDERATED_TOKEN_FILE is left over: its file does not exist, and this is "
        return f"{meaning}not a Kubernetes pod", "unset AZURE_FEDERATED_TOKEN_FILE"
    meaning = f"the file in AZURE_FEDERATED_TOKEN_FILE cannot be used: {workload.problem}"
    if workload.is_denied:
        return f"{meaning}: the pod runs as a user who may not read it", _FILE_GROUP
    if workload.is_empty:
        return f"{meaning}: the kubelet has not written it", _NEW_POD
    return meaning, _WEBHOOK


def _account_of(workload: WorkloadToken) -> tuple[str, str]:
    """Return the service account and its namespace, for a shell."""
    prefix, _, rest = workload.subject.rpartition(_ACCOUNT_PREFIX)
    namespace, _, name = rest.partition(":") if not prefix else ("", "", "")
    return argument(name, ACCOUNT), argument(namespace, ACCOUNT._replace(placeholder="NAMESPACE"))


def check_federation(facts: Facts) -> Verdict:
    """Check whether Microsoft Entra ID knows the identity and trusts the federated token."""
    problem, workload = facts.probe.failure, facts.workload
    if facts.source.name != WORKLOAD_IDENTITY.name:
        return skipped("the token source is not workload identity")
    if facts.probe.claims is not None:
        return ok("Microsoft Entra ID accepted the federated token")
    code = problem.service_code if problem is not None else ""
    seen = sanitize(problem.problem) if problem is not None else ""
    client_id = argument(facts.source.resolve(facts.identity).value, CLIENT_ID)
    if code == "AADSTS700016":
        return failure(
            seen,
            f"the tenant has no application or managed identity with client ID {client_id} "
            "(AADSTS700016): the annotation of the service account or the tenant is wrong",
            f"az identity list --query \"[?clientId=='{client_id}']\"; then correct the annotation "
            "azure.workload.identity/client-id or AZURE_TENANT_ID",
        )
    if code == "AADSTS7000112":
        return failure(
            seen,
            f"the application with client ID {client_id} is disabled (AADSTS7000112)",
            f"az ad sp update --id {client_id} --set accountEnabled=true",
        )
    if code in _NO_FEDERATION:
        return failure(
            f"{seen}; issuer {workload.issuer}, subject {workload.subject}, audience "
            f"{workload.audience}",
            "no federated identity credential of the identity matches "
            f"{_NO_FEDERATION[code]}the pod's token ({code})",
            "az identity federated-credential create --identity-name NAME --resource-group GROUP "
            f"--name kubernetes --issuer {argument(workload.issuer, RESOURCE)} "
            f"--subject {argument(workload.subject, SUBJECT)} "
            f"--audiences {argument(workload.audience, RESOURCE)}",
        )
    return skipped("the response is not about a federated credential")
