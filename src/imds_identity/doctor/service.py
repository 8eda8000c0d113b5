"""Checks of who answers, how, and how willingly."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .._core.failure import sanitize
from .finding import Verdict, failure, ok, skipped, unknown

if TYPE_CHECKING:
    from ._facts.facts import Exchanged, Facts

_NOT_ASKED = "nobody was asked"
_NOT_ITS_OWN = "is not the metadata service"
_PROXIES = ("squid", "envoy", "haproxy", "varnish", "zscaler", "bluecoat", "mitmproxy", "tinyproxy")
_ELSEWHERE = "use the credential of that cloud, or Azure Arc: azcmagent connect"


def answer_is_the_services(facts: Facts) -> Verdict:
    """Who really answers at the service's address."""
    contact = facts.contact
    if not contact.requests:
        return skipped(_NOT_ASKED)
    for request in contact.requests:
        who = _stranger(request)
        if who and contact.claims is None:
            return failure(_seen(request), *who)
    if contact.claims is not None or _is_its_own(facts):
        return ok(_seen(contact.requests[0]))
    if contact.failure is not None and _NOT_ITS_OWN in contact.failure.problem:
        return failure(
            _seen(contact.requests[-1]),
            f"{_named(contact.requests[-1])} answers in place of Azure's metadata service",
            "use another credential here; on an Azure VM find out what answers: curl -sv --noproxy "
            "'*' -H Metadata:true 'http://169.254.169.254/metadata/versions'",
        )
    if contact.metadata is not None and contact.metadata.status:
        return unknown(_seen(contact.metadata))
    return skipped("nobody answered")


def _is_its_own(facts: Facts) -> bool:
    document = facts.contact.document or {}
    return "compute" in document or "error" in document


def _named(request: Exchanged) -> str:
    server = sanitize(request.headers.get("server", ""), 80)
    return f"something else ({server})" if server else "something else"


def _seen(request: Exchanged) -> str:
    server = request.headers.get("server", "")
    words = f" from {server}" if server else ""
    kind = request.headers.get("content-type", "")
    answer = f"{request.status}{words} {kind}".strip() if request.status else request.problem
    return f"{request.path}: {answer} in {request.seconds * 1000:.0f} ms"


def _stranger(request: Exchanged) -> tuple[str, str] | None:
    """What a known other one that answers means, and what to do; None if it is none of these."""
    for tell in (_other_cloud, _docker, _proxy, _portal):
        if who := tell(request):
            return who
    return None


def _other_cloud(request: Exchanged) -> tuple[str, str] | None:
    server = request.headers.get("server", "").lower()
    if server.startswith("ec2ws"):
        return ("this is an Amazon EC2 instance: its own metadata service answers", _ELSEWHERE)
    if "metadata-flavor" in request.headers or "metadata server for vm" in server:
        return ("this is a Google Cloud machine: its own metadata service answers", _ELSEWHERE)
    return None


def _docker(request: Exchanged) -> tuple[str, str] | None:
    if request.status == 403 and "unreachable" in request.words.lower():
        return (
            (
                "Docker Desktop answers in the metadata service's place: this is a container on a "
                "developer's machine"
            ),
            "use another credential here, or run the emulator: imds-identity emulator --help",
        )
    return None


def _proxy(request: Exchanged) -> tuple[str, str] | None:
    headers = request.headers
    server = headers.get("server", "").lower()
    if "x-forwarded-for" in request.words.lower():
        return (
            (
                "something on the way adds an X-Forwarded-For header, and the service refuses what "
                "comes through a proxy"
            ),
            (
                "take the proxy (a service mesh's sidecar too) out of the way to 169.254.169.254; "
                "Istio: traffic.sidecar.istio.io/excludeOutboundIPRanges: 169.254.169.254/32"
            ),
        )
    if (
        request.status == 407
        or {"via", "x-cache", "proxy-authenticate"} & set(headers)
        or any(name in server for name in _PROXIES)
    ):
        name = headers.get("via") or headers.get("server") or "unnamed"
        return (
            (
                f"a proxy ({sanitize(name, 80)}) answers in the service's place, though none was "
                "asked: requests are redirected on their way"
            ),
            (
                "exempt 169.254.169.254 from the transparent proxy, the sidecar or the redirecting "
                "firewall rule: sudo iptables -t nat -S"
            ),
        )
    return None


def _portal(request: Exchanged) -> tuple[str, str] | None:
    if 300 <= request.status < 400:
        target = sanitize(urlsplit(request.headers.get("location", "")).netloc) or "elsewhere"
        return (
            (
                f"a captive portal or a gateway answers and redirects to {target}; the metadata "
                "service never redirects"
            ),
            (
                "leave that network or log in to it; on a machine that is no Azure VM use another "
                "credential"
            ),
        )
    if request.status == 200 and "html" in request.headers.get("content-type", ""):
        return (
            (
                "a captive portal or a gateway answers with a page of HTML; the metadata service "
                "speaks JSON"
            ),
            (
                "leave that network or log in to it; on a machine that is no Azure VM use another "
                "credential"
            ),
        )
    return None


def answer_comes_in_time(facts: Facts) -> Verdict:
    """Whether those who take connections answer, too."""
    requests = facts.contact.requests
    if not requests:
        return skipped(_NOT_ASKED)
    if facts.contact.connect_problem:
        return skipped("no connection was made")
    if any(request.status for request in requests):
        told = (f"{r.path} {r.status or r.problem} in {r.seconds * 1000:.0f} ms" for r in requests)
        return ok("; ".join(told))
    return failure(
        f"{requests[-1].path}: {requests[-1].problem}",
        "somebody takes the connection and does not answer: the service is overloaded, or "
        "something in between (a proxy, a firewall) swallows requests",
        "try again within minutes; then look for what is on the way: sudo iptables -t nat -S",
    )


def nobody_asked_for_rest(facts: Facts) -> Verdict:
    """Whether this user's processes are pausing for the service."""
    if facts.shared.is_off or not facts.shared.path:
        return skipped("processes share nothing, so no pause either")
    seconds = facts.shared.paused_seconds
    if seconds > 0:
        return failure(
            f"a pause of {seconds:.0f} s more, noted in {sanitize(facts.shared.path)}",
            "another process of this user was throttled, and all of them rest until the service "
            f"takes requests again, in {seconds:.0f} s; no token was asked for now",
            "wait; then find what asks so often: ss -tnp dst 169.254.169.254",
        )
    return ok("no process was asked to rest")


def machine_is_not_throttled(facts: Facts) -> Verdict:
    """Whether the service refuses because this machine asks too often."""
    requests = facts.contact.requests
    if not requests:
        return skipped(_NOT_ASKED)
    refused = [request for request in requests if request.status == 429]
    if not refused:
        return ok("no request was refused for its number")
    rest = refused[-1].headers.get("retry-after")
    return failure(
        f"429{f', Retry-After {rest}' if rest else ''}",
        "the service throttles this machine: together its processes ask more than 20 times a "
        "second, or 5 at once",
        "find what asks so often: ss -tnp dst 169.254.169.254; share one credential in a process, "
        "and the cache between processes",
    )


def service_is_up(facts: Facts) -> Verdict:
    """Whether the service is being updated or is ill."""
    problem, requests = facts.contact.failure, facts.contact.requests
    if not requests or not requests[-1].status:
        return skipped("there was no answer" if requests else _NOT_ASKED)
    status = problem.status if problem is not None else None
    if status == 410:
        return failure(
            f"410: {problem.problem if problem else ''}",
            "the service is being updated (410); it is back within 70 seconds",
            "wait for 70 s and try again",
        )
    if status is not None and (status == 404 or status >= 500):
        return failure(
            f"{status}: {problem.problem if problem else ''}",
            f"the service answers {status}: it is being updated or is ill",
            "try again within minutes; if it stays, restart or redeploy the VM (on Azure Arc: "
            "sudo systemctl restart himdsd) and open a support case with this report",
        )
    return ok("the service is neither ill nor being updated")
