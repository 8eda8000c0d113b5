"""Checks of where tokens come from, and of the variables that say so."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .._core.failure import sanitize
from .._core.source import ARC
from .finding import Verdict, failure, ok, skipped, unknown, warning

if TYPE_CHECKING:
    from ._facts.facts import Facts

_ARC_RULES = ("arc", "arc-installed")
_IDENTITY_RULES = ("service-fabric", "app-service")
# A variable that is set where its rule does not fit, and the rules for which that is as it should.
_LEFT_OVER = {
    "IDENTITY_ENDPOINT": (*_IDENTITY_RULES, "arc"),
    "IDENTITY_HEADER": _IDENTITY_RULES,
    "IDENTITY_SERVER_THUMBPRINT": _IDENTITY_RULES,
    "IMDS_ENDPOINT": ("arc",),
    # App Service sets these two as well, by their old names.
    "MSI_ENDPOINT": (*_IDENTITY_RULES, "azure-ml", "cloud-shell"),
    "MSI_SECRET": (*_IDENTITY_RULES, "azure-ml"),
    "AZURE_FEDERATED_TOKEN_FILE": ("workload-identity",),
}
_NO_SUCH_RESOURCE = ("AADSTS500011", "AADSTS650057", "invalid_resource")
_DEFAULT = "/.default"


def endpoint_is_a_url(facts: Facts) -> Verdict:
    """Whether the endpoint that a variable names can be asked at all."""
    if facts.source_problem:
        variable = facts.source.variable
        return failure(facts.source_problem, facts.source_problem, f"unset {variable}")
    variable = facts.source.variable
    named = f", from {variable}" if variable and facts.environment[variable] else ""
    return ok(f"{facts.source}{named}")


def no_variables_are_left_over(facts: Facts) -> Verdict:
    """Whether variables of another host lead clients astray."""
    chosen = facts.explanation.chosen
    contact = facts.contact
    misled = facts.source.variable in ("MSI_ENDPOINT", "IDENTITY_ENDPOINT")
    if misled and chosen not in _ARC_RULES and contact.connect_problem:
        variable = facts.source.variable
        return failure(
            f"{variable} is set and makes this {facts.source}; {contact.connect_problem} there",
            f"{variable} is left over: nothing answers where it leads, and because of it no other "
            "source is asked",
            f"unset {variable}",
        )
    if facts.explanation.forced:
        return skipped("the source was named, so no variable chose it")
    environment = facts.environment
    left = [name for name, rules in _LEFT_OVER.items() if environment[name] and chosen not in rules]
    if left:
        names = ", ".join(left)
        return warning(
            f"{names} set, and not used by {facts.source}",
            f"{names}: left over from another host, and may lead other clients astray",
            f"unset {' '.join(left)}",
        )
    return ok("no variable of another host is set")


def source_is_explained(facts: Facts) -> Verdict:
    """Why this source, and what was missing for each other."""
    explanation = facts.explanation
    others = [c for c in explanation.candidates if c.rule != explanation.chosen and c.missing]
    lacking = "; ".join(f"{c.rule} lacks {', '.join(c.missing)}" for c in others)
    why = "was asked for" if explanation.forced else "is the first that fits"
    return ok(f"{explanation.chosen} {why}: {lacking}")


def client_id_variable_fits(facts: Facts) -> Verdict:
    """Whether AZURE_CLIENT_ID makes other clients ask for an identity that is not there."""
    if not facts.environment["AZURE_CLIENT_ID"]:
        return ok("AZURE_CLIENT_ID is not set")
    if facts.source.name != ARC:
        return ok("AZURE_CLIENT_ID is set")
    return warning(
        "AZURE_CLIENT_ID is set on an Azure Arc server",
        "AZURE_CLIENT_ID makes DefaultAzureCredential ask for a user-assigned identity, which most "
        "Azure Arc agents do not have; the system-assigned one is not tried then",
        "unset AZURE_CLIENT_ID",
    )


def resource_is_no_scope(facts: Facts) -> Verdict:
    """Whether a scope was named where a resource is due."""
    wanted = sanitize(facts.resource)
    if facts.is_scope:
        return ok(f"{wanted}, a scope")
    if facts.resource.endswith(_DEFAULT):
        resource = sanitize(facts.resource.removesuffix(_DEFAULT))
        return warning(
            wanted,
            f"{wanted} is a scope and no resource: this package takes it, but az, curl and the "
            "service itself answer AADSTS500011 to it",
            f"--resource {resource}",
        )
    parts = urlsplit(facts.resource)
    problem = facts.contact.failure.problem if facts.contact.failure else ""
    is_unknown = any(words in problem for words in _NO_SUCH_RESOURCE)
    if is_unknown and parts.scheme == "https" and parts.path.strip("/"):
        return failure(
            f"{wanted}: {problem}",
            f"{wanted} is no resource but a scope: a permission stands after the resource",
            f"--resource {sanitize(f'{parts.scheme}://{parts.netloc}')}",
        )
    return ok(wanted)


def workload_has_its_token(facts: Facts) -> Verdict:
    """Whether Kubernetes has put the workload's own token where it should be."""
    workload = facts.workload
    path = sanitize(workload.path)
    if facts.source.name != "workload-identity":
        return skipped("this is no workload identity")
    if workload.problem:
        return failure(
            f"{path}: {workload.problem}",
            f"the file that AZURE_FEDERATED_TOKEN_FILE names cannot be used: {workload.problem}",
            "label the pod azure.workload.identity/use=true, and look at the webhook: "
            "kubectl get pods -n kube-system -l azure-workload-identity.io/system=true",
        )
    if workload.expires is None:
        return unknown(f"the token in {path} tells no expiry")
    left = workload.expires - facts.system.wall
    if left <= 0:
        return failure(
            f"the token in {path} expired {-left:.0f} s ago (subject {workload.subject})",
            "the workload's own token has expired: Kubernetes does not renew it any more",
            "kubectl delete pod THIS_POD",
        )
    return ok(f"the token in {path} is good for {left:.0f} s (subject {workload.subject})")


def container_sees_the_host(facts: Facts) -> Verdict:
    """Whether the service of the host's loopback was asked from within a container."""
    kind = facts.system.container
    if not kind:
        return ok("no sign of a container")
    host = urlsplit(facts.source.endpoint).hostname
    is_loopback = host == "localhost" or (host or "").startswith("127.")
    if is_loopback and facts.contact.connect_problem and not facts.agent.installed:
        return failure(
            f"{kind} container; {sanitize(facts.source.endpoint)}: {facts.contact.connect_problem}",
            "this container has a loopback of its own, where the host's service does not listen",
            "run the container with --network host (in Kubernetes: hostNetwork: true), and mount "
            "the agent's key files: -v /var/opt/azcmagent/tokens:/var/opt/azcmagent/tokens:ro",
        )
    return ok(f"{kind} container: its tokens are the host's identity's, its loopback is its own")


def firmware_is_azures(facts: Facts) -> Verdict:
    """What the firmware says of whose machine this is."""
    told, firmware = facts.firmware.is_azure, facts.firmware
    if told is None:
        return unknown(
            f"the firmware does not tell (maker {sanitize(firmware.maker) or 'not readable'})"
        )
    return ok(
        "the chassis asset tag is Azure's"
        if told
        else f"no Azure VM: the machine's maker is {sanitize(firmware.maker)}"
    )


def python_is_told(facts: Facts) -> Verdict:
    """Versions, for who reads the report elsewhere."""
    packages = ", ".join(f"{name} {version}" for name, version in facts.system.packages.items())
    return ok(f"Python {facts.system.python} on {facts.system.platform}; {packages}")
