"""Recognize servers that respond in place of Azure's metadata service."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .._core.failure import sanitize
from ._catalog.hosts import FEDERATE, OR_ARC
from .finding import Verdict, failure

if TYPE_CHECKING:
    from ._facts.facts import RequestRecord

RETRY = "sleep 60; imds-identity doctor"  # before a command that may interrupt others
BUSIEST = "ss -tnp dst 169.254.169.254 # find the process that sends too many requests"
_GATEWAY = (502, 504)
_PROXIES = ("squid", "envoy", "haproxy", "varnish", "zscaler", "bluecoat", "mitmproxy", "tinyproxy")
EXEMPT = (
    "sudo iptables -t nat -I OUTPUT -d 169.254.169.254/32 -j RETURN # exempts it from a rule of "
    "this machine that redirects it: sudo iptables -t nat -S; else exempt it in the proxy"
)
NOT_AN_AZURE_VM = (
    "leave that network or log in to it; if this machine is not an Azure VM, use another credential"
)


def server_name(request: RequestRecord) -> str:
    """Return the name of the server in a response."""
    server = sanitize(request.headers.get("server", ""), 80)
    return f"another server ({server})" if server else "another server"


def describe(request: RequestRecord) -> str:
    """Return what the server responded, or why it did not."""
    server = request.headers.get("server", "")
    origin = f" from {server}" if server else ""
    content_type = request.headers.get("content-type", "")
    result = f"{request.status}{origin} {content_type}".strip() if request.status else request.error
    return f"{request.path}: {result} in {request.seconds * 1000:.0f} ms"


def identify_other_server(request: RequestRecord) -> Verdict | None:
    """Return the verdict on a response of a known other server, or None."""
    for identify in (_other_cloud, _docker, _proxy, _portal, _gateway):
        if verdict := identify(request):
            return verdict
    return None


def _other_cloud(request: RequestRecord) -> Verdict | None:
    seen, server = describe(request), request.headers.get("server", "").lower()
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
            describe(request),
            "Docker Desktop responds in place of the metadata service: this is a container on "
            "a developer's machine",
            "az login # and use AzureCliCredential; or run the emulator: imds-identity emulator",
        )
    return None


def _proxy(request: RequestRecord) -> Verdict | None:
    headers = request.headers
    server = headers.get("server", "").lower()
    if "x-forwarded-for" in request.body_start.lower():
        return failure(
            describe(request),
            "a proxy between this process and the service adds an X-Forwarded-For header, and "
            "the service rejects such requests",
            EXEMPT,
        )
    if request.status == 400 and "metadata header" in request.body_start.lower():
        return failure(
            describe(request),
            "a proxy between this process and the service removes the Metadata header, without "
            "which the service rejects requests",
            EXEMPT,
        )
    has_proxy_header = bool({"via", "x-cache", "proxy-authenticate"} & set(headers))
    if request.status == 407 or has_proxy_header or any(name in server for name in _PROXIES):
        name = headers.get("via") or headers.get("server") or "unnamed"
        return failure(
            describe(request),
            f"a transparent proxy ({sanitize(name, 80)}) responds in place of the service",
            EXEMPT,
        )
    return None


def _portal(request: RequestRecord) -> Verdict | None:
    if 300 <= request.status < 400:
        target = sanitize(urlsplit(request.headers.get("location", "")).netloc) or "another URL"
        return failure(
            describe(request),
            f"a captive portal, a proxy or a gateway redirects to {target}, which the service "
            "never does",
            NOT_AN_AZURE_VM,
        )
    if request.status == 200 and "html" in request.headers.get("content-type", ""):
        return failure(
            describe(request),
            "a captive portal, a proxy or a gateway responds with an HTML page in place of the "
            "service, which returns JSON",
            NOT_AN_AZURE_VM,
        )
    return None


def _gateway(request: RequestRecord) -> Verdict | None:
    server, content_type = (request.headers.get(name, "") for name in ("server", "content-type"))
    if request.status not in _GATEWAY or server.startswith("IMDS") or "json" in content_type:
        return None
    return failure(
        describe(request),
        "a gateway or a proxy responds in place of the service, which it cannot reach (HTTP "
        f"{request.status}, {server_name(request)})",
        EXEMPT,
    )
