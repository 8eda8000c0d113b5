"""Checks of federated tokens: those of pods, and of applications that trust an identity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._core.failure import sanitize
from .._sources.token_proxy import URL as TOKEN_PROXY
from .._sources.workload_identity import WORKLOAD_IDENTITY
from .finding import (
    CLIENT_ID,
    HOST,
    PATH,
    RESOURCE,
    SUBJECT,
    Verdict,
    argument,
    failure,
    is_plain_sentence,
    ok,
    skipped,
    unknown,
)
from .host import annotate_command, label_command, look_up, new_pod_command, patch_command
from .token import clock_offset

if TYPE_CHECKING:
    from .._core.failure import Failure
    from ._facts.facts import Facts

_WEBHOOK = "kubectl get pods -n kube-system -l azure-workload-identity.io/system=true"
_ANY_GROUP = 2000  # the kubelet gives the pod's processes and the file the group that is named
_DENIALS = (401, 403)
_WEBHOOK_VARIABLES = (
    "AZURE_FEDERATED_TOKEN_FILE", "AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_AUTHORITY_HOST",
)  # fmt: skip
_NO_FEDERATION = {
    "AADSTS70021": "",
    "AADSTS70023": "",
    "AADSTS70025": "",
    "AADSTS700211": "the issuer of ",
    "AADSTS700212": "the audience of ",
    "AADSTS700213": "the subject of ",
    "AADSTS700216": "",
}

_APPLICATION_CODES = {
    "AADSTS700016": (
        "the tenant {tenant} has no application with client ID {client_id}",
        "az login --tenant {tenant} && az ad sp create --id {client_id}",
    ),
    "AADSTS7000112": (
        "the application with client ID {client_id} is disabled in the tenant {tenant}",
        "az login --tenant {tenant} && az ad sp update --id {client_id} --set accountEnabled=true",
    ),
    "AADSTS90002": (
        "the tenant {tenant} does not exist in this cloud",
        "az account list --query '[].tenantId'",
    ),
    "AADSTS700024": (
        "Microsoft Entra ID does not accept the time of the identity's token",
        "chronyc tracking; sudo chronyc makestep",
    ),
    "AADSTS700236": (
        "the identity and the application {client_id} belong to different tenants",
        "az ad app show --id {client_id} --query publisherDomain",
    ),
    "AADSTS500011": (
        "the resource does not exist in the tenant {tenant}",
        "az login --tenant {tenant} && az ad sp list --all --query '[].servicePrincipalNames'",
    ),
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
        return failure(
            f"AZURE_CLIENT_ID is not set (subject {workload.subject})",
            "AZURE_CLIENT_ID is not set: the pod's service account has no annotation "
            "azure.workload.identity/client-id",
            f"{annotate_command(facts)}; {new_pod_command(facts)}",
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
            new_pod_command(facts),
        )
    return ok(f"the token in {path} expires in {left:.0f} s (subject {workload.subject})")


def _file_problem(facts: Facts) -> tuple[str, str]:
    """Return why the file with the federated token cannot be used, and the remedy."""
    workload = facts.workload
    in_pod = bool(facts.environment["KUBERNETES_SERVICE_HOST"] or facts.system.container)
    if workload.is_missing and not in_pod:
        meaning = "AZURE_FEDERATED_TOKEN_FILE is left over: its file does not exist, and this is "
        names = [name for name in _WEBHOOK_VARIABLES if facts.environment[name]]
        return f"{meaning}not a Kubernetes pod", f"unset {' '.join(names)}"
    meaning = f"the file in AZURE_FEDERATED_TOKEN_FILE cannot be used: {workload.problem}"
    if workload.is_denied:
        patch = patch_command(facts, {"spec": {"securityContext": {"fsGroup": _ANY_GROUP}}})
        return f"{meaning}: the pod runs as a user who may not read it", patch
    if workload.is_directory:
        meaning = f"AZURE_FEDERATED_TOKEN_FILE names a directory, {sanitize(workload.path)}, and "
        meaning += "not the token's file in it"
        path = argument(workload.token_file, PATH)
        export = f"export AZURE_FEDERATED_TOKEN_FILE={path}"
        return meaning, export if workload.token_file else f"{export}; or: {_webhook(facts)}"
    if workload.is_empty:
        return f"{meaning}: the kubelet has not written it", new_pod_command(facts)
    return meaning, _webhook(facts)


def _webhook(facts: Facts) -> str:
    label = "# label azure.workload.identity/use=true, and the webhook"
    return f"{label_command(facts)}; {_WEBHOOK} {label}"


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
    if facts.source.variable == TOKEN_PROXY and problem is not None and not code:
        return _check_binding(facts, problem, client_id)
    if code == "AADSTS700016":
        return failure(
            seen,
            f"the tenant has no application or managed identity with client ID {client_id} "
            "(AADSTS700016): the annotation of the service account or the tenant is wrong",
            f"az identity list --query \"[?clientId=='{client_id}']\"; if there is none: "
            f"{annotate_command(facts)}; otherwise correct AZURE_TENANT_ID",
        )
    if code == "AADSTS7000112":
        return failure(
            seen,
            f"the application with client ID {client_id} is disabled (AADSTS7000112)",
            f"az ad sp update --id {client_id} --set accountEnabled=true",
        )
    if code == "AADSTS700024":
        return failure(
            seen,
            "Microsoft Entra ID does not accept the time of the pod's token (AADSTS700024): it "
            "has expired there, or a clock is wrong",
            f"date -u; {new_pod_command(facts)}",
        )
    if code in _NO_FEDERATION:
        return failure(
            f"{seen}; issuer {workload.issuer}, subject {workload.subject}, audience "
            f"{workload.audience}",
            "no federated identity credential of the identity matches "
            f"{_NO_FEDERATION[code]}the pod's token ({code})",
            "az identity federated-credential create "
            f"--identity-name {look_up('clientId', client_id, 'name')} "
            f"--resource-group {look_up('clientId', client_id, 'resourceGroup')} "
            f"--name kubernetes --issuer {argument(workload.issuer, RESOURCE)} "
            f"--subject {argument(workload.subject, SUBJECT)} "
            f"--audiences {argument(workload.audience, RESOURCE)}",
        )
    return skipped("the response is not about a federated credential")


def check_application(facts: Facts) -> Verdict:
    """Check whether an application that trusts the identity gets a token in a tenant."""
    application, problem = facts.application, facts.probe.application_failure
    if not application.client_id:
        return skipped("no application was named")
    if facts.probe.application_claims is not None:
        return ok(
            f"a token of the application {sanitize(application.client_id)} for "
            f"{sanitize(application.resource)}"
        )
    if problem is None:
        return skipped("the identity has no token to prove that it is trusted")
    code, seen = problem.service_code, sanitize(problem.problem)
    client_id = argument(application.client_id, CLIENT_ID)
    tenant = argument(application.tenant, HOST)
    if code in _NO_FEDERATION:
        return _check_trust(facts, f"{_NO_FEDERATION[code]}the identity's token ({code})", seen)
    if code in _APPLICATION_CODES:
        meaning, remedy = _APPLICATION_CODES[code]
        names = {"client_id": client_id, "tenant": tenant}
        return failure(seen, f"{meaning.format(**names)} ({code})", remedy.format(**names))
    hint = problem.hint if is_plain_sentence(problem.hint) else ""
    return failure(
        seen, f"the application has no token: {seen}", hint or "imds-identity doctor --network"
    )


def _check_trust(facts: Facts, of_what: str, seen: str) -> Verdict:
    """Report that no federated credential matches, with the command that creates one."""
    claims = facts.probe.claims or {}
    issuer, subject = argument(claims.get("iss"), RESOURCE), argument(claims.get("sub"), SUBJECT)
    audience = argument(facts.resource, RESOURCE)
    return failure(
        f"{seen}; issuer {issuer}, subject {subject}, audience {audience}",
        f"no federated credential of the application matches {of_what}",
        "az ad app federated-credential create --id "
        f"{argument(facts.application.client_id, CLIENT_ID)} --parameters "
        f'\'{{"name": "imds-identity", "issuer": "{issuer}", "subject": "{subject}", '
        f'"audiences": ["{audience}"]}}\'',
    )


def _check_binding(facts: Facts, problem: Failure, client_id: str) -> Verdict:
    """Check whether the token proxy refused the service account."""
    if problem.status not in _DENIALS:
        return skipped("the response is not about the identity binding")
    account = f"{facts.pod.namespace}:{facts.pod.account}"
    return failure(
        sanitize(problem.problem),
        "the token proxy of the AKS identity binding refused this service account: it may not use "
        f"the identity {client_id}, or there is no binding for it",
        f"kubectl auth can-i use-managed-identity {client_id}.cid.wi.aks.azure.com --as "
        f"system:serviceaccount:{argument(account, SUBJECT)}; az aks identity-binding list "
        "--resource-group GROUP --cluster-name CLUSTER",
    )
