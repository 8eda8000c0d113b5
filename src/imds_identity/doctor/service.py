"""Checks of the server that responds, and of its responses."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .._core.failure import Reason, sanitize
from .._core.source import IMDS
from .._http.messages import RELAYED_BY_AZURE
from .._platform import proxy_agent
from .finding import HOST_AND_PORT, Verdict, argument, failure, ok, skipped, unknown
from .host import own_remedy, patch_command, restart_command, vm_command
from .responder import (
    BUSIEST,
    EXEMPT,
    NOT_AN_AZURE_VM,
    RETRY,
    describe,
    identify_other_server,
    server_name,
)

if TYPE_CHECKING:
    from ._facts.facts import Facts

_ADDRESS = {"traffic.sidecar.istio.io/excludeOutboundIPRanges": "169.254.169.254/32"}
_EXCLUDED = {"metadata": {"annotations": _ADDRESS}}
_NOT_REQUESTED = "no request was sent"
_NOT_YET = ", or the identity was assigned just now"
_DENIED, _NOT_ATTRIBUTED = 403, 421  # statuses of Azure's guest proxy agent
_AGENT_LOG = "sudo tail /var/log/azure-proxy-agent/*.log"


def check_responder(facts: Facts) -> Verdict:
    """Check that the responses come from Azure's metadata service."""
    probe = facts.probe
    if not probe.requests:
        return skipped(_NOT_REQUESTED)
    if probe.failure is not None and probe.failure.reason is Reason.METADATA_SECURITY:
        return _security_denial(facts)
    for request in probe.requests:
        other = identify_other_server(request)
        if other and probe.claims is None:
            return _with_own_remedy(other, facts)
    is_wrong = probe.failure is not None and probe.failure.reason is Reason.WRONG_SERVICE
    if is_wrong or (_may_be_wrong_server(facts) and not _is_metadata_service(facts)):
        return _wrong_server(facts)
    if probe.claims is not None or _is_metadata_service(facts):
        return ok(describe(probe.requests[0]))
    if probe.metadata is not None and probe.metadata.status:
        return unknown(describe(probe.metadata))
    return skipped("there was no response")


def _with_own_remedy(other: Verdict, facts: Facts) -> Verdict:
    """Return the verdict on a portal with the remedy for this host."""
    if other.remedy == EXEMPT and facts.in_pod:
        return other._replace(remedy=patch_command(facts, _EXCLUDED))
    if other.remedy != NOT_AN_AZURE_VM:
        return other
    if not facts.source.is_per_machine:
        server = argument(urlsplit(facts.source.endpoint).netloc, HOST_AND_PORT)
        remedy = f"curl -sv https://{server} # log in to that network, or correct HTTPS_PROXY"
        return other._replace(remedy=remedy)
    return other._replace(remedy=EXEMPT) if facts.firmware.is_azure else other


def check_metadata_security(facts: Facts) -> Verdict:
    """Show whether Azure's guest proxy agent audits requests or enforces access rules."""
    probe = facts.probe
    is_relayed = any(RELAYED_BY_AZURE in request.headers for request in probe.requests)
    if not facts.has_proxy_agent and not is_relayed:
        return skipped("this machine has no guest proxy agent")
    if probe.failure is not None and probe.failure.reason is Reason.METADATA_SECURITY:
        return ok("the guest proxy agent responded in place of the service")
    if facts.has_enforced_rules:
        return ok("the guest proxy agent enforces the VM's access rules, and they allow this user")
    if is_relayed:
        return ok(
            "the guest proxy agent relays requests: it audits them, or the VM's access rules allow "
            f"this user (root: sudo cat {proxy_agent.STATUS})"
        )
    return ok("the guest proxy agent is installed, and requests do not pass through it")


def _security_denial(facts: Facts) -> Verdict:
    last = facts.probe.requests[-1]
    if last.status == _DENIED:
        meaning = "the VM's access rules deny this process (Metadata Security Protocol)"
        remedy = f"{vm_command(facts, 'show')} --query securityProfile.proxyAgentSettings; "
        hint = facts.probe.failure.hint if facts.probe.failure else ""
        return failure(describe(last), meaning, f"{remedy}{_AGENT_LOG} # {sanitize(hint, 1000)}")
    cause = "could not determine which process sent the request"
    if last.status != _NOT_ATTRIBUTED:
        cause = "or the service behind it fails"
    return failure(
        describe(last),
        f"the VM's guest proxy agent, which enforces the Metadata Security Protocol, {cause}",
        f"sudo systemctl restart azure-proxy-agent; {_AGENT_LOG}",
    )


def _may_be_wrong_server(facts: Facts) -> bool:
    """Return whether a server that a variable names refuses without IMDS's JSON."""
    problem, last = facts.probe.failure, facts.probe.requests[-1]
    if problem is None:
        return False
    is_refusal = problem.reason in (Reason.REFUSED, Reason.SERVICE_FAILING) and last.status < 500
    is_named = facts.source.name == IMDS and bool(facts.source.variable)
    return is_named and is_refusal and "json" not in last.headers.get("content-type", "").lower()


def _wrong_server(facts: Facts) -> Verdict:
    last, variable = facts.probe.requests[-1], facts.source.variable
    meaning = f"{server_name(last)} responds in place of the token service"
    if variable:
        remedy = f"unset {facts.source.settings_to_unset}"
        return failure(describe(last), f"{meaning}, at the URL in {variable}", remedy)
    return failure(
        describe(last),
        meaning,
        "use another credential on this machine; if it is an Azure VM, identify the server: "
        "curl -sv --noproxy '*' -H Metadata:true 'http://169.254.169.254/metadata/versions'",
    )


def _is_metadata_service(facts: Facts) -> bool:
    document = facts.probe.document or {}
    return "compute" in document or "error" in document


def check_shared_backoff(facts: Facts) -> Verdict:
    """Check whether this user's processes are backing off because the service throttled them."""
    if facts.cache.is_off or not facts.cache.path:
        return skipped("there is no shared token cache, so processes do not share a back-off")
    seconds = facts.cache.backoff_seconds
    if seconds > 0:
        return failure(
            f"{seconds:.0f} s are left of the back-off in {sanitize(facts.cache.path)}",
            "the service throttled another process of this user, so this user's processes send no "
            f"requests for {seconds:.0f} s, and the doctor requested no token",
            f"sleep {math.ceil(seconds)}; {BUSIEST}, and wait",
        )
    return ok("no process is backing off")


def check_throttling(facts: Facts) -> Verdict:
    """Check whether the service throttles token requests; metadata has limits of its own."""
    requests, problem = facts.probe.requests, facts.probe.failure
    if not requests:
        return skipped(_NOT_REQUESTED)
    throttled = [request for request in requests if request.status == 429]
    if not throttled:
        return ok("no request was throttled")
    if problem is None or problem.reason is not Reason.THROTTLED:
        return ok("only requests of other categories, such as the metadata, were throttled")
    retry_after = throttled[-1].headers.get("retry-after")
    seen = f"429{f', Retry-After {retry_after}' if retry_after else ''}"
    if not facts.source.is_per_machine:
        return failure(
            seen,
            f"{facts.source.label} throttles requests of this identity",
            f"sleep {problem.retry_after or 60:.0f}; imds-identity doctor # use one credential in "
            "each process, and the shared token cache between processes",
        )
    return failure(
        seen,
        "the service throttles this machine: all its processes together send more than 20 "
        "requests a second, or 5 at once",
        f"{BUSIEST}; use one credential in each process, and the shared token cache between "
        "processes",
    )


def check_service_health(facts: Facts) -> Verdict:
    """Check whether the service is being updated or is failing."""
    problem, requests = facts.probe.failure, facts.probe.requests
    if not requests or not requests[-1].status:
        return skipped("there was no response" if requests else _NOT_REQUESTED)
    is_failing = problem is not None and problem.reason is Reason.SERVICE_FAILING
    status = problem.status if problem is not None and is_failing else None
    if status == 410:
        return failure(
            f"410: {problem.problem if problem else ''}",
            "the service is being updated (410) and is available again within 70 seconds",
            "sleep 70; imds-identity doctor # wait for 70 s and try again",
        )
    if status is not None and (status == 404 or status >= 500):
        return failure(
            f"{status}: {problem.problem if problem else ''}",
            f"the service returned {status}: it is being updated or is failing"
            + (_NOT_YET if status == 404 and facts.source.name == IMDS else ""),
            f"{RETRY} || {_recovery(facts)}",
        )
    return ok("the service is neither failing nor being updated")


def _recovery(facts: Facts) -> str:
    """Return the last resort if the service keeps failing."""
    if command := restart_command(facts):
        return command
    if facts.source.name != IMDS:
        return "curl https://azure.status.microsoft # try again later"
    if own_remedy(facts):  # the machine is not the user's
        return "imds-identity doctor --save facts.json # for a support case"
    return f"{vm_command(facts, 'redeploy')} # or open a support case with this output"
