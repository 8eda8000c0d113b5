"""Checks of the server that responds, and of its responses."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .._core.failure import Reason, sanitize
from .._core.source import IMDS
from .._http.messages import RELAYED_BY_AZURE
from .._platform import proxy_agent
from .finding import Verdict, failure, ok, skipped, unknown
from .host import FEDERATE, OR_ARC, own_remedy, restart_command, vm_command

if TYPE_CHECKING:
    from ._facts.facts import Facts, RequestRecord

_NOT_REQUESTED = "no request was sent"
_GATEWAY = (502, 504)
_NOT_YET = ", or the identity was assigned just now"
_DENIED, _NOT_ATTRIBUTED = 403, 421  # statuses of Azure's guest proxy agent
_AGENT_LOG = "sudo tail /var/log/azure-proxy-agent/*.log"
_PROXIES = ("squid", "envoy", "haproxy", "varnish", "zscaler", "bluecoat", "mitmproxy", "tinyproxy")
_EXEMPT = (
    "exempt 169.254.169.254 from the transparent proxy, the sidecar or the redirecting firewall "
    "rule: sudo iptables -t nat -S"
)
_NOT_AN_AZURE_VM = (
    "leave that network or log in to it; if this machine is not an Azure VM, use another credential"
)


def check_responder(facts: Facts) -> Verdict:
    """Check that the responses come from Azure's metadata service."""
    probe = facts.probe
    if not probe.requests:
        return skipped(_NOT_REQUESTED)
    if probe.failure is not None and probe.failure.reason is Reason.METADATA_SECURITY:
        return _security_denial(facts)
    for request in probe.requests:
        other = _identify_other_server(request)
        if other and probe.claims is None:
            return other
    is_wrong = probe.failure is not None and probe.failure.reason is Reason.WRONG_SERVICE
    if is_wrong or (_may_be_wrong_server(facts) and not _is_metadata_service(facts)):
        return _wrong_server(facts)
    if probe.claims is not None or _is_metadata_service(facts):
        return ok(_describe(probe.requests[0]))
    if probe.metadata is not None and probe.metadata.status:
        return unknown(_describe(probe.metadata))
    return skipped("there was no response")


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
        return failure(_describe(last), meaning, f"{remedy}{_AGENT_LOG} # {sanitize(hint, 1000)}")
    cause = "could not determine which process sent the request"
    if last.status != _NOT_ATTRIBUTED:
        cause = "or the service behind it fails"
    return failure(
        _describe(last),
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
    meaning = f"{_server_name(last)} responds in place of the token service"
    if variable:
        remedy = f"unset {facts.source.settings_to_unset}"
        return failure(_describe(last), f"{meaning}, at the URL in {variable}", remedy)
    return failure(
        _describe(last),
        meaning,
        "use another credential on this machine; if it is an Azure VM, identify the server: "
        "curl -sv --noproxy '*' -H Metadata:true 'http://169.254.169.254/metadata/versions'",
    )


def _is_metadata_service(facts: Facts) -> bool:
    document = facts.probe.document or {}
    return "compute" in document or "error" in document


def _server_name(request: RequestRecord) -> str:
    server = sanitize(request.headers.get("server", ""), 80)
    return f"another server ({server})" if server else "another server"


def _describe(request: RequestRecord) -> str:
    server = request.headers.get("server", "")
    origin = f" from {server}" if server else ""
    content_type = request.headers.get("content-type", "")
    result = f"{request.status}{origin} {content_type}".strip() if request.status else request.error
    return f"{request.path}: {result} in {request.seconds * 1000:.0f} ms"


def _identify_other_server(request: RequestRecord) -> Verdict | None:
    """Return the verdict on a response of a known other server, or None."""
    for identify in (_other_cloud, _docker, _proxy, _portal, _gateway):
        if verdict := identify(request):
            return verdict
    return None


def _other_cloud(request: RequestRecord) -> Verdict | None:
    seen, server = _describe(request), request.headers.get("server", "").lower()
    if server.startswith("ec2ws"):
        meaning = "Amazon EC2's metadata service responds: this is an EC2 instance"
        return failure(seen, meaning, FEDERATE + OR_ARC)
    if "metadata-flavor" in request.headers or "metadata server for vm" in server:
        meaning = "Google Cloud's metadata service responds: this is a Google Cloud VM"
        return failure(seen, meaning, FEDERATE + OR_ARC)
    return None


def _docker(request: RequestRecord) -> Verdict | None:
    if request.status == 403 and "unreachable" in request.body_start.lower():
        return failure(
            _describe(request),
            "Docker Desktop responds in place of the metadata service: this is a container on "
            "a developer's machine",
            "use another credential there, or run the emulator: imds-identity emulator --help",
        )
    return None


def _proxy(request: RequestRecord) -> Verdict | None:
    headers = request.headers
    server = headers.get("server", "").lower()
    if "x-forwarded-for" in request.body_start.lower():
        return failure(
            _describe(request),
            "a proxy between this process and the service adds an X-Forwarded-For header, and "
            "the service rejects such requests",
            "exempt 169.254.169.254 from the proxy, which may be a service mesh's sidecar; "
            "Istio: traffic.sidecar.istio.io/excludeOutboundIPRanges: 169.254.169.254/32",
        )
    if request.status == 400 and "metadata header" in request.body_start.lower():
        return failure(
            _describe(request),
            "a proxy between this process and the service removes the Metadata header, without "
            "which the service rejects requests",
            _EXEMPT,
        )
    has_proxy_header = bool({"via", "x-cache", "proxy-authenticate"} & set(headers))
    if request.status == 407 or has_proxy_header or any(name in server for name in _PROXIES):
        name = headers.get("via") or headers.get("server") or "unnamed"
        return failure(
            _describe(request),
            f"a transparent proxy ({sanitize(name, 80)}) responds in place of the service",
            _EXEMPT,
        )
    return None


def _portal(request: RequestRecord) -> Verdict | None:
    if 300 <= request.status < 400:
        target = sanitize(urlsplit(request.headers.get("location", "")).netloc) or "another URL"
        return failure(
            _describe(request),
            f"a captive portal or a gateway redirects to {target}, which the metadata service "
            "never does",
            _NOT_AN_AZURE_VM,
        )
    if request.status == 200 and "html" in request.headers.get("content-type", ""):
        return failure(
            _describe(request),
            "a captive portal or a gateway returns an HTML page, and the metadata service "
            "returns JSON",
            _NOT_AN_AZURE_VM,
        )
    return None


def _gateway(request: RequestRecord) -> Verdict | None:
    server, content_type = (request.headers.get(name, "") for name in ("server", "content-type"))
    if request.status not in _GATEWAY or server.startswith("IMDS") or "json" in content_type:
        return None
    return failure(
        _describe(request),
        "a gateway or a proxy responds in place of the service, which it cannot reach (HTTP "
        f"{request.status}, {_server_name(request)})",
        "exempt the service from the proxy, the sidecar or the redirecting firewall rule: sudo "
        "iptables -t nat -S; env | grep -i proxy",
    )


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
            "wait; then find the process that sends too many requests: ss -tnp dst 169.254.169.254",
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
            "wait; then use one credential in each process, and the shared token cache between "
            "processes",
        )
    return failure(
        seen,
        "the service throttles this machine: all its processes together send more than 20 "
        "requests a second, or 5 at once",
        "find the process that sends too many requests: ss -tnp dst 169.254.169.254; use one "
        "credential in each process, and the shared token cache between processes",
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
            "wait for 70 s and try again",
        )
    if status is not None and (status == 404 or status >= 500):
        return failure(
            f"{status}: {problem.problem if problem else ''}",
            f"the service returned {status}: it is being updated or is failing"
            + (_NOT_YET if status == 404 and facts.source.name == IMDS else ""),
            f"try again in a few minutes; if it persists: {_recovery(facts)}",
        )
    return ok("the service is neither failing nor being updated")


def _recovery(facts: Facts) -> str:
    """Return the last resort if the service keeps failing."""
    if command := restart_command(facts):
        return command
    if facts.source.name != IMDS:
        return "see https://azure.status.microsoft"
    if own_remedy(facts):  # the machine is not the user's
        return "open a support case with this output"
    return f"{vm_command(facts, 'redeploy')}, and open a support case with this output"
