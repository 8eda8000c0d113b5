"""Check of the kind of host, and the commands with which each host configures identities."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, NamedTuple

from .._core.failure import Reason, sanitize
from .._core.source import ARC, IMDS
from .._sources.app_hosts.app_service import APP_SERVICE
from .._sources.workload_identity import WORKLOAD_IDENTITY
from ._catalog.hosts import FEDERATE, HOSTS, LOG_IN, OR_ARC, POD_MEANING, Terms
from ._facts.facts import HostKind
from .finding import (
    ACCOUNT,
    APP,
    DEPLOYMENT,
    MACHINE,
    NAMESPACE,
    POD,
    RESOURCE_GROUP,
    REVISION,
    SUBSCRIPTION,
    Verdict,
    argument,
    failure,
    ok,
)
from .responder import identify_other_server

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._facts.facts import Facts

_NO_SERVICE = frozenset(
    (Reason.UNREACHABLE, Reason.NO_RESPONSE, Reason.WRONG_SERVICE, Reason.REDIRECT, Reason.PROXY)
)
_NO_IDENTITY = frozenset(
    (Reason.IDENTITY_NOT_FOUND, Reason.MULTIPLE_IDENTITIES, Reason.BAD_REQUEST)
)
_OPTIONS = (
    ("subscriptionId", "--subscription", SUBSCRIPTION),
    ("resourceGroupName", "--resource-group", RESOURCE_GROUP),
    ("name", "--name", MACHINE),
)
_NODE_POOL = "mc_"  # the resource groups of Azure Kubernetes Service's node pools
_POD_NAME = r"(.+)-[a-z0-9]{5,10}-[a-z0-9]{5}"  # of a deployment
_AZURE_STACK = "azurestack"
_RESTART_AGENT = "sudo systemctl restart himdsd"


class _AppCommands(NamedTuple):
    """The Azure CLI's commands for one kind of app."""

    group: str  # of commands
    user_assigned: str
    system_assigned: str
    restart: str


_APPS = {
    HostKind.APP_SERVICE: _AppCommands("az webapp", "--identities", "", "restart"),
    HostKind.FUNCTIONS: _AppCommands("az functionapp", "--identities", "", "restart"),
    HostKind.CONTAINER_APPS: _AppCommands(
        "az containerapp", "--user-assigned", "--system-assigned",
        "revision restart --revision {revision}",
    ),
    HostKind.CONTAINER_APP_JOBS: _AppCommands(
        "az containerapp job", "--user-assigned", "--system-assigned", "start"
    ),
}  # fmt: skip


_NOT_YOURS = frozenset((*HOSTS, HostKind.KUBERNETES))


def check_host(facts: Facts) -> Verdict:
    """Check whether this kind of host has managed identities, before the network is blamed."""
    kind = facts.hosting.kind
    if facts.probe.claims is None and is_azure_stack(facts):
        return failure(
            "azEnvironment in the metadata is AzureStack",
            "this is a VM on Azure Stack Hub, whose metadata service issues no tokens",
            "use a service principal: ClientSecretCredential or CertificateCredential",
        )
    if facts.source.name == IMDS and facts.source.forced and _is_arc_server(facts):
        return failure(
            "the source imds was requested, and an Azure Arc agent is installed",
            "this is an Azure Arc server and not an Azure VM, but the source imds was requested",
            "omit --source imds (in a program: source='imds')",
        )
    if kind is HostKind.UNKNOWN:
        return ok("no variable and no firmware value names a host other than an Azure VM")
    name = sanitize(facts.hosting.name)
    label = f"{kind.value}{f' ({name})' if name else ''}"
    if not _lacks_identity(facts):
        return ok(label)
    problem = facts.probe.failure.problem if facts.probe.failure else facts.probe.connect_error
    return failure(f"{label}; {problem or facts.network.problem}", *_terms(facts, name))


def _is_arc_server(facts: Facts) -> bool:
    is_installed = facts.agent.installed and not facts.firmware.is_azure
    return is_installed and facts.probe.claims is None


def _lacks_identity(facts: Facts) -> bool:
    """Return whether there is no token because this kind of host has none to give."""
    source, probe = facts.source, facts.probe
    is_silent = bool(probe.connect_error or facts.network.problem)
    if probe.claims is not None:
        return False
    if has_app_identity(facts):
        return is_silent
    if source.name != IMDS or source.variable or source.forced:
        return False
    if facts.hosting.kind is HostKind.KUBERNETES and _other_responder(facts):
        return False
    reasons = _NO_SERVICE | (_NO_IDENTITY if facts.hosting.kind in _NOT_YOURS else frozenset())
    return is_silent or (probe.failure is not None and probe.failure.reason in reasons)


def _other_responder(facts: Facts) -> bool:
    """Return whether a known other server responds, such as another cloud's or a sidecar."""
    return any(identify_other_server(request) for request in facts.probe.requests)


def _terms(facts: Facts, name: str) -> Terms:
    kind = facts.hosting.kind
    if kind in _APPS:
        return _app_terms(facts, name)
    if kind in (HostKind.OTHER_CLOUD, HostKind.OTHER_PLATFORM):
        is_machine = kind is HostKind.OTHER_CLOUD
        meaning = f"this {'machine' if is_machine else 'program'} runs on {name}, which has no "
        return Terms(
            f"{meaning}Azure managed identities", FEDERATE + (OR_ARC if is_machine else "")
        )
    if kind is HostKind.KUBERNETES:
        return _pod_terms(facts)
    if kind is HostKind.NOT_AZURE:
        return Terms(
            f"this is not an Azure VM according to its firmware ({name}), and nothing responds "
            "as the metadata service",
            f"{LOG_IN}; for a server, connect it to Azure Arc: sudo azcmagent connect",
        )
    meaning, remedy = HOSTS[kind]
    return Terms(meaning, remedy.replace("{pool}", argument(name, APP)))


def _pod_terms(facts: Facts) -> Terms:
    rules = {each.rule: each.missing for each in facts.explanation.candidates}
    missing = " and ".join(rules.get(WORKLOAD_IDENTITY.name, ()))
    if facts.environment["AZURE_FEDERATED_TOKEN_FILE"] and missing:
        return Terms(
            f"{missing}: not set, so this pod's workload identity is not used",
            f"kubectl get serviceaccount {argument(facts.pod.account, ACCOUNT)} --namespace "
            f"{argument(facts.pod.namespace, NAMESPACE)} --output yaml # its annotations; then: "
            f"{new_pod_command(facts)}",
        )
    return Terms(POD_MEANING, _workload_identity(facts))


def _app_terms(facts: Facts, name: str) -> Terms:
    label = facts.hosting.kind.value
    if has_app_identity(facts):
        return Terms(
            f"the identity endpoint of {label} does not respond to the app {name!r}",
            _app_command(facts, _APPS[facts.hosting.kind].restart),
        )
    return Terms(
        f"the app {name!r} of {label} has no managed identity: {label} sets IDENTITY_ENDPOINT "
        "for apps with one",
        identity_command(facts, "assign"),
    )


def is_azure_stack(facts: Facts) -> bool:
    """Return whether the instance metadata is that of Azure Stack Hub."""
    return str(_compute(facts).get("azEnvironment", "")).lower() == _AZURE_STACK


def has_app_identity(facts: Facts) -> bool:
    """Return whether the token source is that of an app, whose identities the CLI assigns."""
    return facts.hosting.kind in _APPS and facts.source.name == APP_SERVICE.name


def own_remedy(facts: Facts) -> str:
    """Return the remedy on a machine that is not the user's to change; empty on others."""
    kind = facts.hosting.kind
    if kind in _NOT_YOURS and facts.source.name == IMDS:
        return _terms(facts, "").remedy
    return _workload_identity(facts) if _node_group(facts) else ""


def _node_group(facts: Facts) -> str:
    """Return the resource group of this machine if it contains an AKS cluster's node pools."""
    group = str(_compute(facts).get("resourceGroupName", ""))
    return group if group.lower().startswith(_NODE_POOL) else ""


def _workload_identity(facts: Facts) -> str:
    # MC_group_cluster_location; with another underscore, the parts are ambiguous.
    parts = _node_group(facts).split("_")
    group, cluster = parts[1:3] if len(parts) == 4 else ("", "")
    return (
        f"az aks update --resource-group {argument(group, RESOURCE_GROUP)} "
        f"--name {argument(cluster, APP._replace(placeholder='CLUSTER'))} --enable-oidc-issuer "
        f"--enable-workload-identity; {annotate_command(facts)}; {label_command(facts)} # workload "
        "identity: label azure.workload.identity/use=true"
    )


def label_command(facts: Facts) -> str:
    """Return the command that makes the webhook add workload identity to this pod."""
    return patch_command(facts, {"metadata": {"labels": {"azure.workload.identity/use": "true"}}})


def patch_command(facts: Facts, template: Mapping[str, object]) -> str:
    """Return the command that changes the template of this pod's deployment, and so its pods."""
    found = re.fullmatch(_POD_NAME, facts.pod.name)
    name, namespace = found and found[1], argument(facts.pod.namespace, NAMESPACE)
    patch = json.dumps({"spec": {"template": template}}, separators=(",", ":"))
    return (
        f"kubectl patch deployment {argument(name, DEPLOYMENT)} --namespace {namespace} "
        f"--patch '{patch}'"
    )


def annotate_command(facts: Facts) -> str:
    """Return the command that names the identity of the pod's service account."""
    account, namespace = argument(facts.pod.account, ACCOUNT), facts.pod.namespace
    return (
        f"kubectl annotate serviceaccount {account} --namespace {argument(namespace, NAMESPACE)} "
        "--overwrite azure.workload.identity/client-id=CLIENT_ID"
    )


def new_pod_command(facts: Facts) -> str:
    """Return the command that replaces this pod."""
    name, namespace = argument(facts.pod.name, POD), argument(facts.pod.namespace, NAMESPACE)
    return f"kubectl delete pod {name} --namespace {namespace}"


def identity_command(facts: Facts, verb: str, selected: str = "") -> str:
    """Return the command that shows, assigns or removes identities of this host.

    Args:
        facts: the facts.
        verb: ``show``, ``assign`` or ``remove``.
        selected: the user-assigned identity, or its placeholder; empty for the system-assigned one.
    """
    if facts.source.name == ARC:
        return "azcmagent show" if verb == "show" else "sudo azcmagent connect"
    commands = _APPS.get(facts.hosting.kind)
    option = commands.user_assigned if commands else "--identities"
    words = [
        _app_command(facts, f"identity {verb}")
        if commands
        else vm_command(facts, f"identity {verb}")
    ]
    if selected:
        words += [option, selected]
    elif commands and verb != "show":
        words.append(commands.system_assigned)
    return " ".join(word for word in words if word)


def look_up(field: str, value: str, wanted: str) -> str:
    """Return the substitution that looks up a field of an identity in a shell."""
    return f'"$(az identity list --query "[?{field}==\'{value}\'].{wanted}" -o tsv)"'


def restart_command(facts: Facts) -> str:
    """Return the command that restarts the app or the agent that issues tokens; else empty."""
    if facts.source.name == ARC:
        is_windows = facts.system.platform.startswith("Windows")
        return "net stop himds && net start himds" if is_windows else _RESTART_AGENT
    if has_app_identity(facts):
        return _app_command(facts, _APPS[facts.hosting.kind].restart)
    return ""


def _app_command(facts: Facts, words: str) -> str:
    group = argument(facts.hosting.group, RESOURCE_GROUP)
    name = argument(facts.hosting.name, APP)
    revision = argument(facts.environment["CONTAINER_APP_REVISION"], REVISION)
    words = f"{_APPS[facts.hosting.kind].group} {words.replace('{revision}', revision)}"
    return f"{words} --resource-group {group} --name {name}"


def vm_command(facts: Facts, verb: str) -> str:
    """Return a command of the Azure CLI about this VM or its scale set."""
    known = _compute(facts)
    scale_set = known.get("vmScaleSetName")
    words = [f"az {'vmss' if scale_set else 'vm'} {verb}"]
    for name, option, kind in _OPTIONS:
        value = scale_set if scale_set and kind is MACHINE else known.get(name)
        if value or kind is not SUBSCRIPTION:  # without it, az uses the current subscription
            words += [option, argument(value, kind)]
    return " ".join(words)


def _compute(facts: Facts) -> Mapping[str, object]:
    compute = (facts.probe.document or {}).get("compute")
    return compute if isinstance(compute, dict) else {}
