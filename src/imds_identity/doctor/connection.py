"""Checks of what exactly went wrong with a connection or a request."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .._core.failure import Reason, sanitize
from .._core.source import ARC, IMDS
from .._http.exchange import ErrorKind
from .._sources.app_hosts.service_fabric import SERVICE_FABRIC
from .._sources.token_proxy import CA_VARIABLES
from .._sources.token_proxy import URL as TOKEN_PROXY
from .._sources.workload_identity import WORKLOAD_IDENTITY
from ._facts.facts import CertificateFault, HostKind
from ._facts.network import proxy_for
from .finding import (
    HOST,
    HOST_AND_PORT,
    NAMESPACE,
    UNIT,
    Verdict,
    argument,
    failure,
    ok,
    skipped,
    warning,
)
from .host import new_pod_command, restart_command
from .responder import BUSIEST, RETRY
from .token import CLOCK_REMEDY

if TYPE_CHECKING:
    from .._platform.environment import Environment
    from ._facts.facts import Facts
    from ._facts.network import Proxy

SLOW_SECONDS = 1.0
"""The timeout of azure-identity's DefaultAzureCredential for its first request to the service."""
_PROXY_ERRORS = (ErrorKind.PROXY, ErrorKind.PROXY_AUTHENTICATION)
_NAMES = {
    ErrorKind.NAME: "the name {host} does not resolve",
    ErrorKind.NAME_TIMEOUT: "the DNS server did not resolve the name {host} in time",
}
_SOCKETS = (
    "systemctl show {unit} -p RestrictAddressFamilies -p SystemCallFilter -p IPAddressDeny # in a "
    "container: docker inspect --format '{{{{.HostConfig.SecurityOpt}}}}' CONTAINER"
)
_EGRESS = {
    ErrorKind.REFUSED: "{host} refuses the connection, or a firewall does in its place",
    ErrorKind.TIMEOUT: "packets to {host} are lost: a firewall or a network policy drops them",
    ErrorKind.NO_ROUTE: "there is no route to {host}",
}
_UNANSWERED = {
    ErrorKind.RESET: (
        "the connection is reset before a response: a firewall or a proxy closes it, or the "
        "service is restarting"
    ),
    ErrorKind.INCOMPLETE: (
        "the response begins but is not complete in time: a proxy, a firewall or a full network "
        "delays or cuts it off"
    ),
    ErrorKind.TIMEOUT: (
        "the server accepts the connection but does not respond: the service is overloaded, or a "
        "proxy or firewall drops the requests"
    ),
}
_NOT_HTTP = "the server accepts the connection, but its response is not HTTP"
_REDIRECTS = "sudo iptables -t nat -S # look for a rule that redirects it"


def check_connection(facts: Facts) -> Verdict:
    """Check that the endpoint accepts connections."""
    probe = facts.probe
    if probe.connect_seconds is not None and not probe.connect_error:
        return ok(f"connected in {probe.connect_seconds * 1000:.0f} ms")
    if facts.network.problem:
        return skipped("there is no route to connect over")
    if not probe.connect_error:
        return skipped("no connection was attempted, because requests may go through a proxy")
    if _used_proxy(facts):
        return skipped("requests go through a proxy")
    host = sanitize(urlsplit(facts.source.endpoint).netloc)
    return failure(f"{host}: {probe.connect_error}", *_connect_problem(facts, host))


def _connect_problem(facts: Facts, host: str) -> tuple[str, str]:
    """Return why there is no connection, and the remedy."""
    kind, server = facts.probe.connect_kind, argument(host, HOST_AND_PORT)
    if kind is ErrorKind.FORBIDDEN:
        meaning = f"the system forbids this process to connect to {host}: a seccomp filter, "
        unit = argument(facts.system.unit, UNIT)
        meaning += "systemd's RestrictAddressFamilies= or a security policy"
        return meaning, _SOCKETS.format(unit=unit)
    if kind in _NAMES:
        name = argument(urlsplit(f"//{host}").hostname, HOST)
        meaning, remedy = _NAMES[kind].format(host=host), f"getent hosts {name}; resolvectl status"
    elif not facts.source.is_per_machine and facts.source.endpoint.startswith("https"):
        meaning = _EGRESS.get(kind, "{host} cannot be reached").format(host=host)
        test = _network_policies(facts) if facts.in_pod else f"curl -sv https://{server}"
        remedy = f"{test} # allow it, or set the proxy: export HTTPS_PROXY=http://PROXY:PORT"
    elif kind is ErrorKind.REFUSED and facts.has_proxy_agent and facts.source.name == IMDS:
        meaning = "the VM's guest proxy agent (Metadata Security Protocol), to which connections "
        meaning += "are redirected, is not running, or not in the network of this container"
        remedy = "sudo systemctl restart azure-proxy-agent # in a container: docker run "
        remedy += "--network host"
    elif kind is ErrorKind.REFUSED:
        meaning = f"no process listens at {host}, or a firewall refuses the connection"
        meaning += _or_elsewhere(facts)
        remedy = f"sudo ss -ltnp; sudo iptables -S OUTPUT # look for {server}"
    else:
        meaning = f"packets to {host}{_from_container(facts)} are lost: a firewall, a network "
        meaning += f"policy or a wrong route drops them{_or_elsewhere(facts)}"
        remedy = _find_firewall(facts, server)
    variable = facts.source.variable
    if variable == TOKEN_PROXY:
        remedy = f"{_network_policies(facts)}; {new_pod_command(facts)}"
        return f"the token proxy of the AKS identity binding: {meaning}", remedy
    if facts.source.is_per_machine and variable:
        return f"{variable} names {host}: {meaning}", f"unset {facts.source.settings_to_unset}"
    return meaning, remedy


def _or_elsewhere(facts: Facts) -> str:
    """Return the other explanation if nothing shows what kind of machine this is."""
    is_known = facts.firmware.is_azure or facts.source.variable or facts.has_proxy_agent
    return "" if is_known or facts.hosting.kind.value else "; or this is not an Azure VM"


def _find_firewall(facts: Facts, server: str) -> str:
    if facts.hosting.kind is HostKind.KUBERNETES:
        return _network_policies(facts)
    return (
        f"curl -sv --noproxy '*' -m 2 -H Metadata:true http://{server}/metadata/versions; "
        "sudo iptables -S; sudo nft list ruleset"
    )


def _network_policies(facts: Facts) -> str:
    namespace = argument(facts.pod.namespace, NAMESPACE)
    return f"kubectl get networkpolicy --namespace {namespace} --output yaml"


def _from_container(facts: Facts) -> str:
    container = facts.system.container
    return f" from this {container} container" if container else ""


def check_egress(facts: Facts) -> Verdict:
    """Check that this machine reaches the services on the internet that tokens depend on."""
    if facts.egress is None:
        return skipped("--network was not requested")
    failed = [each for each in facts.egress if each.error]
    seen = "; ".join(f"{each.host}: {each.error or 'connected'}" for each in facts.egress)
    if not failed:
        return ok(seen)
    hosts = ", ".join(each.host for each in failed)
    proxy = f" through the proxy in {failed[0].proxy}" if failed[0].proxy else ""
    server = argument(failed[0].host, HOST)
    remedy = f"curl -sv https://{server} # allow it in the firewall, or correct HTTPS_PROXY"
    if facts.source.name == ARC:
        remedy = "azcmagent check # the agent's own proxy: azcmagent config get proxy.url"
    needs_it = facts.source.name == ARC or not facts.source.is_per_machine
    problem = failure if needs_it and facts.probe.claims is None else warning
    return problem(
        seen, f"this machine cannot connect to {hosts}{proxy}: {failed[0].error}", remedy
    )


def check_certificate(facts: Facts) -> Verdict:
    """Check that the server's TLS certificate is trusted."""
    problem, tls = facts.probe.failure, facts.tls
    if not facts.source.endpoint.startswith("https"):
        return skipped("the endpoint does not use TLS")
    host = sanitize(urlsplit(facts.source.endpoint).netloc)
    if problem is not None and tls.bundle_problem:
        return failure(
            f"{host}: REQUESTS_CA_BUNDLE: {tls.bundle_problem}",
            "the file in REQUESTS_CA_BUNDLE cannot be used, so no certificate is trusted",
            "unset REQUESTS_CA_BUNDLE",
        )
    if problem is None or problem.reason is not Reason.TLS:
        return ok("no certificate was rejected")
    issuer = f"issued by {tls.issuer}" if tls.issuer else "of an unknown issuer"
    own = [name for name in CA_VARIABLES if facts.environment[name]]
    if facts.source.name == SERVICE_FABRIC.name:
        return failure(
            f"{host}: {problem.problem}",
            f"the TLS certificate of {host} is not that in IDENTITY_SERVER_THUMBPRINT: the "
            "variables are another node's or another process's, or another server responds",
            f"unset {facts.source.settings_to_unset} # in a Service Fabric service: use the "
            "variables of its own process",
        )
    if facts.source.variable == TOKEN_PROXY and own:
        return failure(
            f"{host}: {problem.problem}",
            f"the TLS certificate of the token proxy {host}, {issuer}, is not from the authority "
            f"in {own[0]}",
            f"{new_pod_command(facts)} # the webhook sets the variables again",
        )
    return failure(f"{host}: {problem.problem}", *_certificate_problem(facts, host, issuer))


def _certificate_problem(facts: Facts, host: str, issuer: str) -> tuple[str, str]:
    """Return why a certificate is not trusted, and the remedy."""
    certificate, tls = f"the TLS certificate of {host}, {issuer},", facts.tls
    if tls.fault is CertificateFault.NOT_YET_VALID:
        meaning = f"{certificate} is not valid yet: this machine's clock is probably slow"
        return meaning, f"date -u; {CLOCK_REMEDY}"
    if tls.fault is CertificateFault.EXPIRED and (tls.expiry or 0.0) > facts.system.wall_time:
        meaning = f"the authority of {certificate} has expired, or that in REQUESTS_CA_BUNDLE has"
        return meaning, "export REQUESTS_CA_BUNDLE=FILE # with its current certificate"
    if tls.fault is CertificateFault.EXPIRED:
        meaning = f"{certificate} has expired, or this machine's clock is fast"
        return meaning, f"date -u # if it is right, the owner of {host} must renew the certificate"
    if tls.fault is CertificateFault.OTHER_NAME:
        name = argument(urlsplit(f"//{host}").hostname, HOST)
        meaning = f"{certificate} is for another name: a proxy or another server responds"
        return meaning, f"getent hosts {name} # correct it in /etc/hosts, the DNS server or a proxy"
    return (
        f"{certificate} is not trusted: a proxy inspects the traffic, or another server responds",
        "export REQUESTS_CA_BUNDLE=FILE # with the certificate of that issuer",
    )


def check_response(facts: Facts) -> Verdict:
    """Check that requests get a response in time once the connection is made."""
    requests, problem = facts.probe.requests, facts.probe.failure
    if not requests:
        return skipped("no request was sent")
    last = requests[-1]
    if facts.probe.connect_error:
        return skipped("no connection was made")
    if last.kind in _PROXY_ERRORS or (problem is not None and problem.reason is Reason.TLS):
        return skipped("no connection to the service was made")
    parts = (f"{r.path} {r.status or r.error} in {r.seconds * 1000:.0f} ms" for r in requests)
    if facts.probe.claims is not None:
        return _check_duration(facts, "; ".join(parts))
    if last.status:
        return ok("; ".join(parts))
    meaning = _UNANSWERED.get(last.kind, _NOT_HTTP)
    restart = restart_command(facts) or _REDIRECTS
    if facts.source.name == WORKLOAD_IDENTITY.name:
        server = argument(urlsplit(facts.source.endpoint).netloc, HOST_AND_PORT)
        restart = f"curl -sv https://{server} # look for a firewall or a proxy"
    remedy = f"{RETRY} || {restart}"
    return failure(f"{last.path}: {last.error}", meaning, remedy)


def _check_duration(facts: Facts, seen: str) -> Verdict:
    """Warn if a response took longer than other clients wait for the first one."""
    seconds = max(request.seconds for request in facts.probe.requests)
    if not facts.source.is_per_machine or seconds <= SLOW_SECONDS:
        return ok(seen)
    return warning(
        seen,
        f"the service works, but it is slow: a response took {seconds:.1f} s, and other clients "
        f"wait for {SLOW_SECONDS:g} s when they look for it (DefaultAzureCredential)",
        BUSIEST,
    )


def check_proxies(facts: Facts) -> Verdict:
    """Check the proxy, or whether clients that use it would send metadata requests to it."""
    environment, endpoint = facts.environment, facts.source.endpoint
    proxy = proxy_for(environment, endpoint)
    if proxy is None:
        return ok("no proxy is set for the endpoint")
    if not facts.source.is_per_machine:
        return _check_used_proxy(facts, proxy)
    host = urlsplit(endpoint).hostname or ""
    name = _exempting_variable(environment)
    problem = f"does not contain {host}" if environment[name] else "is not set"
    return warning(
        f"{proxy.variable} is set, and {name} {problem}",
        f"{proxy.variable} makes other clients send requests for {host} to a proxy, which fails or "
        "returns a token of the proxy's own machine; this package never uses the proxy",
        _bypass(environment, host),
    )


def _exempting_variable(environment: Environment) -> str:
    return "no_proxy" if environment["no_proxy"] else "NO_PROXY"  # the other one is not read


def _bypass(environment: Environment, host: str) -> str:
    """Return the command that exempts ``host`` from the proxy, in addition to other hosts."""
    name = _exempting_variable(environment)
    return f"export {name}={argument(host, HOST)}{f',${name}' if environment[name] else ''}"


def _used_proxy(facts: Facts) -> Proxy | None:
    """Return the proxy that requests go through: only those to the internet do."""
    if facts.source.name != WORKLOAD_IDENTITY.name:
        return None
    return proxy_for(facts.environment, facts.source.endpoint)


def _check_used_proxy(facts: Facts, proxy: Proxy) -> Verdict:
    requests, host = facts.probe.requests, urlsplit(facts.source.endpoint).hostname
    seen = f"{proxy.variable} is set, and is used for services on the internet"
    if _used_proxy(facts) is None or not requests or requests[-1].status:
        return ok(seen)
    last, server = requests[-1], argument(proxy.server, HOST_AND_PORT)
    bypass = _bypass(facts.environment, host or "")
    if last.kind is ErrorKind.PROXY_AUTHENTICATION:
        return failure(
            f"{proxy.variable}: HTTP 407",
            f"the proxy {server} in {proxy.variable} requires authentication (HTTP 407)",
            f"export {proxy.variable}=http://USER:PASSWORD@{server} # or without the proxy: "
            f"{bypass}",
        )
    if last.kind is ErrorKind.PROXY:
        meaning = f"the proxy {server} in {proxy.variable} cannot or may not connect to {host}"
    elif last.connect_failed:
        meaning = f"the proxy {server} in {proxy.variable} cannot be reached"
    elif last.kind in _UNANSWERED:
        meaning = f"no complete response from {host} comes through the proxy {server} in "
        meaning += proxy.variable
    else:
        return ok(seen)
    return failure(
        f"{proxy.variable}: {last.error}",
        meaning,
        f"{bypass} # without the proxy; or correct {proxy.variable}",
    )
