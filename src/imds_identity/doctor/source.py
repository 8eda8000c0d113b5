"""Checks of the token source and of the variables that select it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .._core.failure import Reason, sanitize
from .._core.source import ARC
from .._sources.app_hosts.azure_ml import AZURE_ML
from .._sources.app_hosts.cloud_shell import CLOUD_SHELL
from .._sources.registry import leftover_variables
from .._sources.workload_identity import WORKLOAD_IDENTITY
from ..metadata._services import nearest_resource, service_at, suggested_resource
from ..metadata.clouds import PUBLIC, cloud_named
from .finding import (
    CLIENT_ID,
    HOST_AND_PORT,
    RESOURCE,
    Verdict,
    argument,
    failure,
    ok,
    skipped,
    unknown,
    warning,
)
from .host import has_app_identity

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from ..metadata.clouds import Cloud
    from ._facts.facts import Facts

_RESOURCE_REASONS = (Reason.UNKNOWN_RESOURCE, Reason.BAD_REQUEST)
_CREDENTIAL_SECRETS = ("AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PATH")
_IDENTITY_VARIABLES = {
    WORKLOAD_IDENTITY.name: ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_AUTHORITY_HOST"),
    AZURE_ML.name: ("DEFAULT_IDENTITY_CLIENT_ID",),
}
_TRIM = 'export {name}="$(printf %s "${name}" | tr -d \'[:space:]\')"'
_DEFAULT_SCOPE = "/.default"


def check_endpoint(facts: Facts) -> Verdict:
    """Check that the endpoint is a valid URL."""
    variable = facts.source.variable
    if facts.endpoint_problem:
        return failure(facts.endpoint_problem, *_endpoint_problem(facts))
    if facts.probe.claims is None and (spaced := _spaced_variables(facts)):
        names = ", ".join(spaced)
        return failure(
            f"{names}: begins or ends with white space",
            f"the value of {names} begins or ends with white space, such as a line break from a "
            "file or a Kubernetes secret",
            "; ".join(_TRIM.format(name=name) for name in spaced),
        )
    origin = f", from {variable}" if variable and facts.environment[variable] else ""
    return ok(f"{facts.source}{origin}")


def _spaced_variables(facts: Facts) -> list[str]:
    """Return the variables of the token source whose values have white space around them."""
    names = (*_set_variables(facts), *_IDENTITY_VARIABLES.get(facts.source.name, ()))
    values = ((name, facts.environment[name]) for name in dict.fromkeys(names))
    return [name for name, value in values if value != value.strip()]


def _endpoint_problem(facts: Facts) -> tuple[str, str]:
    variable, remedy = facts.source.variable, f"unset {facts.source.settings_to_unset}"
    value = facts.environment[variable] if variable else ""
    if value and "://" not in value and argument(value, HOST_AND_PORT) != HOST_AND_PORT.placeholder:
        scheme = "https" if facts.source.spec.requires_https else "http"
        return (
            f"the value of {variable} has no scheme: it must start with http:// or https://",
            f"export {variable}={scheme}://{argument(value, HOST_AND_PORT)} # or: {remedy}",
        )
    return facts.endpoint_problem, remedy


def check_leftover_variables(facts: Facts) -> Verdict:
    """Check whether variables of another host mislead clients."""
    chosen, probe, variable = facts.explanation.chosen, facts.probe, facts.source.variable
    is_app_host = not facts.source.is_per_machine and variable in facts.source.spec.variables
    if is_app_host and probe.connect_error and not has_app_identity(facts):
        return failure(
            f"{variable} is set and selects {facts.source}: {probe.connect_error}",
            f"{variable} is left over: nothing responds at that address, and the variable prevents "
            "clients from using another token source",
            f"unset {' '.join(_set_variables(facts))}",
        )
    if facts.explanation.forced:
        return skipped("the token source was named, so no variable selects it")
    left = leftover_variables(chosen, facts.environment)
    if facts.in_pod:  # there, it is workload identity that lacks another variable
        left = [name for name in left if name != "AZURE_FEDERATED_TOKEN_FILE"]
    if left:
        names = ", ".join(left)
        return warning(
            f"{names}: set, but not used by {facts.source}",
            f"{names}: left over from another host, and may mislead other clients",
            f"unset {' '.join(left)}",
        )
    return ok("no variable of another host is set")


def _set_variables(facts: Facts) -> list[str]:
    """Return the variables of the chosen host that are set: one command unsets them all."""
    names = (facts.source.variable, *facts.source.spec.variables)
    return [name for name in dict.fromkeys(names) if name and facts.environment[name]]


def check_environment_credential(facts: Facts) -> Verdict:
    """Check whether DefaultAzureCredential uses another credential of the environment."""
    secrets = other_credential(facts)
    if not secrets:
        return ok("the environment has no other credential")
    names = ", ".join(secrets)
    return warning(
        f"AZURE_CLIENT_ID, AZURE_TENANT_ID and {names} are set",
        f"{names}: DefaultAzureCredential uses the service principal of these variables and not "
        "the managed identity",
        f"unset {' '.join(secrets)}",
    )


def other_credential(facts: Facts) -> list[str]:
    """Return the secrets of a service principal that DefaultAzureCredential would use."""
    if not (facts.environment["AZURE_CLIENT_ID"] and facts.environment["AZURE_TENANT_ID"]):
        return []
    return [name for name in _CREDENTIAL_SECRETS if facts.environment[name]]


def check_source_selection(facts: Facts) -> Verdict:
    """Show why this token source was selected and the others were not."""
    explanation = facts.explanation
    others = [c for c in explanation.candidates if c.rule != explanation.chosen and c.missing]
    lacking = "; ".join(f"{c.rule} lacks {', '.join(c.missing)}" for c in others)
    reason = "was requested" if explanation.forced else "is the first that matches"
    return ok(f"{explanation.chosen} {reason}: {lacking}")


def check_client_id_variable(facts: Facts) -> Verdict:
    """Check whether AZURE_CLIENT_ID makes other clients request another identity."""
    client_id = facts.environment["AZURE_CLIENT_ID"]
    if not client_id:
        return ok("AZURE_CLIENT_ID is not set")
    if facts.source.name != ARC:
        return _check_unused_client_id(facts, sanitize(client_id))
    return warning(
        "AZURE_CLIENT_ID is set on an Azure Arc server",
        "AZURE_CLIENT_ID makes DefaultAzureCredential request a user-assigned identity, which most "
        "Azure Arc agents do not support, and not try the system-assigned one",
        "unset AZURE_CLIENT_ID",
    )


def _check_unused_client_id(facts: Facts, client_id: str) -> Verdict:
    if not facts.source.unused_variable_note(facts.identity) or other_credential(facts):
        return ok("AZURE_CLIENT_ID is set")
    used = facts.source.resolve(facts.identity)
    fix = 'imds-identity doctor --client-id "$AZURE_CLIENT_ID" # in a program: client_id=; '
    fix += "or: unset AZURE_CLIENT_ID"
    return warning(
        f"AZURE_CLIENT_ID is {client_id!r}, and {facts.source.label} does not use it",
        "AZURE_CLIENT_ID is set but not used: DefaultAzureCredential requests the identity with "
        f"client_id {client_id!r}, but a credential without a selector requests the {used}",
        fix if "client_id" in facts.source.spec.selectors else "unset AZURE_CLIENT_ID",
    )


def check_resource(facts: Facts) -> Verdict:
    """Check whether a scope was passed as the resource."""
    resource = sanitize(facts.resource)
    if facts.is_scope:
        return ok(f"{resource}, a scope")
    if facts.resource.endswith(_DEFAULT_SCOPE):
        return warning(
            resource,
            f"{resource} is a scope, not a resource: this package accepts it, but az, curl and the "
            "service itself return AADSTS500011",
            _retry(facts.resource.removesuffix(_DEFAULT_SCOPE)),
        )
    problem = facts.probe.failure
    is_unknown = problem is not None and problem.reason in _RESOURCE_REASONS
    meant = _meant_resource(facts) if is_unknown else ""
    parts = urlsplit(facts.resource)
    if problem is not None and meant and urlsplit(meant).netloc != parts.netloc:
        return failure(
            f"{resource}: {problem.problem}",
            f"{resource} is not a resource of this cloud: {meant} probably is the one",
            _retry(meant),
        )
    is_unknown = problem is not None and problem.reason is Reason.UNKNOWN_RESOURCE
    if problem is not None and is_unknown and facts.source.name == CLOUD_SHELL.name:
        return failure(
            f"{resource}: {problem.problem}",
            f"Cloud Shell's own identity gets tokens for some Azure services only, not {resource}",
            "az login; az account get-access-token --resource "
            f"{argument(facts.resource, RESOURCE)}",
        )
    if problem is not None and is_unknown and is_application(parts):
        uri = argument(facts.resource, RESOURCE)
        return failure(
            f"{resource}: {problem.problem}",
            f"the tenant has no service principal for the application {resource}: its identifier "
            "is another one, or it was never used in this tenant",
            f"az ad sp list --filter \"servicePrincipalNames/any(n:n eq '{uri}')\"; if there is "
            f"none: az ad app list --identifier-uri {uri}; az ad sp create --id CLIENT_ID",
        )
    has_path = parts.scheme == "https" and parts.path.strip("/")
    if problem is not None and is_unknown and has_path:
        return failure(
            f"{resource}: {problem.problem}",
            f"{resource} is a scope, not a resource: it ends with the name of a permission",
            _retry(f"{parts.scheme}://{parts.netloc}"),
        )
    return ok(resource)


def _retry(resource: str) -> str:
    return f"imds-identity doctor --resource {argument(resource, RESOURCE)}"


def _meant_resource(facts: Facts) -> str:
    """Return the resource that was probably meant; empty if there is no better one."""
    cloud = _cloud(facts)
    meant = suggested_resource(facts.resource, cloud)
    if service_at(urlsplit(meant).netloc):
        return meant
    return nearest_resource(meant or facts.resource, cloud) or meant


def is_application(resource: SplitResult) -> bool:
    """Return whether the resource is that of an app registration, by its form."""
    is_guid = bool(re.fullmatch(CLIENT_ID.pattern, resource.path))
    return resource.scheme == "api" or (not resource.scheme and is_guid)


def _cloud(facts: Facts) -> Cloud:
    """Return this machine's cloud according to its metadata, or else the public cloud."""
    compute = (facts.probe.document or {}).get("compute")
    name = compute.get("azEnvironment") if isinstance(compute, dict) else None
    try:
        return cloud_named(name) if isinstance(name, str) else PUBLIC
    except ValueError:
        return PUBLIC


def check_container(facts: Facts) -> Verdict:
    """Check whether a container tries to reach a service on the host's loopback."""
    container = facts.system.container
    if not container:
        return ok("no container detected")
    host = urlsplit(facts.source.endpoint).hostname or ""
    is_loopback = host == "localhost" or host.startswith("127.")
    if (
        facts.source.is_per_machine
        and is_loopback
        and facts.probe.connect_error
        and not facts.agent.installed
    ):
        return failure(
            f"{container} container; {facts.source.shown_endpoint}: {facts.probe.connect_error}",
            "this container has a separate loopback interface, where the host's service does not "
            "listen",
            "docker run --network host -v /var/opt/azcmagent/tokens:/var/opt/azcmagent/tokens:ro # "
            "in Kubernetes: hostNetwork: true and a hostPath volume",
        )
    return ok(f"{container} container, which uses the host's identity and its own loopback")


def check_firmware(facts: Facts) -> Verdict:
    """Show whether the firmware identifies an Azure VM."""
    maker = sanitize(facts.firmware.maker)
    if facts.firmware.is_azure is None:
        return unknown(
            f"the firmware does not identify the platform (manufacturer: {maker or 'not readable'})"
        )
    if facts.firmware.is_azure:
        return ok("the chassis asset tag is that of an Azure VM")
    return ok(f"not an Azure VM: the machine's manufacturer is {maker}")


def check_versions(facts: Facts) -> Verdict:
    """Show the versions that a support engineer needs."""
    packages = ", ".join(f"{name} {version}" for name, version in facts.system.packages.items())
    return ok(f"Python {facts.system.python} on {facts.system.platform}; {packages}")
