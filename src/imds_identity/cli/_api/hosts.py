"""Which hosts may receive a token, and for which resource."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..._azure_core.bearer import origin_of
from ..._core.failure import sanitize
from ...metadata.clouds import CLOUDS, PUBLIC, cloud_named

if TYPE_CHECKING:
    import argparse

    from ...metadata.clouds import Cloud

_GRAPHS = (
    "https://graph.microsoft.com",
    "https://graph.microsoft.us",
    "https://dod-graph.microsoft.us",
    "https://microsoftgraph.chinacloudapi.cn",
)
_STORAGE_SERVICES = ("blob", "dfs", "file", "queue", "table")


def cloud_of(args: argparse.Namespace) -> Cloud:
    """Return the cloud of ``--cloud``, else this machine's cloud, else the public cloud."""
    if args.cloud is not None:
        return cloud_named(args.cloud)
    from ...metadata import MetadataClient, MetadataError

    try:
        name = MetadataClient().get("compute/azEnvironment")
    except MetadataError:
        return PUBLIC
    return cloud_named(name) if isinstance(name, str) and name else PUBLIC


def resource_for(host: str) -> str | None:
    """Return the resource whose tokens ``host`` accepts; None if it is not a host of Azure."""
    host = host.lower()
    for cloud in CLOUDS:
        if host == urlsplit(cloud.resource_manager).hostname:
            return cloud.resource_manager
        if _is_subdomain(host, cloud.key_vault_suffix):
            return f"https://{cloud.key_vault_suffix}"
        if any(_is_subdomain(host, f"{s}.{cloud.storage_suffix}") for s in _STORAGE_SERVICES):
            return "https://storage.azure.com"
    return next((graph for graph in _GRAPHS if host == urlsplit(graph).hostname), None)


def origin_url(url: str) -> str:
    """Return scheme, host and port of a URL to which a token may be sent.

    The scheme must be https, even for a loopback address: a proxy could see the token.
    """
    try:
        scheme, host, port = origin_of(url)
    except ValueError:
        raise ValueError(f"invalid URL: {sanitize(url)!r}") from None
    if scheme != "https":
        raise ValueError(f"a token must not be sent unencrypted: {sanitize(url)!r} is not https")
    is_plain = url.isascii() and url.isprintable() and not any(c in url for c in ' \\"<>')
    if not is_plain or not host or "@" in urlsplit(url).netloc:
        raise ValueError(
            f"invalid URL: {sanitize(url)!r}; use https://HOST/PATH without a user name, and "
            "percent-encode special characters"
        )
    host = f"[{host}]" if ":" in host else host
    return f"https://{host}" if port == 443 else f"https://{host}:{port}"


def _is_subdomain(host: str, suffix: str) -> bool:
    return host.endswith(f".{suffix}") and host.count(".") == suffix.count(".") + 1
