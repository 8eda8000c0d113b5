"""Which token belongs to which host: of Azure's own services this follows from the name."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

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
_STORES = ("blob", "dfs", "file", "queue", "table")


def add_cloud(parser: argparse.ArgumentParser) -> None:
    """Add the flag that says in which cloud this machine is."""
    parser.add_argument(
        "--cloud",
        metavar="NAME",
        help="the cloud that is meant, such as AzureUSGovernmentCloud (default: the machine's own)",
    )


def cloud_of(args: argparse.Namespace) -> Cloud:
    """The cloud that the flag names, else the machine's; the public one where nothing tells.

    Raises:
        ValueError: if it is none that is known.
    """
    if args.cloud is not None:
        return cloud_named(args.cloud)
    from ...metadata import MetadataClient, MetadataError

    try:
        said = MetadataClient().get("compute/azEnvironment")
    except MetadataError:
        return PUBLIC
    return cloud_named(said) if isinstance(said, str) and said else PUBLIC


def resource_for(host: str) -> str | None:
    """The resource whose token ``host`` takes; None where the name does not tell."""
    host = host.lower()
    for cloud in CLOUDS:
        if host == urlsplit(cloud.resource_manager).hostname:
            return cloud.resource_manager
        if _is_below(host, cloud.key_vault_suffix):
            return f"https://{cloud.key_vault_suffix}"
        if any(_is_below(host, f"{store}.{cloud.storage_suffix}") for store in _STORES):
            return "https://storage.azure.com"
    return next((graph for graph in _GRAPHS if host == urlsplit(graph).hostname), None)


def origin_of(url: str) -> str:
    """Scheme, host and port of an https URL.

    Raises:
        ValueError: if it is none, or one that is read in two ways.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(f"{sanitize(url)!r} is no URL") from None
    is_plain = url.isascii() and url.isprintable() and not any(c in url for c in ' \\"<>')
    if parts.scheme.lower() != "https":
        raise ValueError(
            f"a token travels by https only, and {sanitize(url)!r} does not begin with https://"
        )
    if not is_plain or not parts.hostname or "@" in parts.netloc:
        raise ValueError(f"{sanitize(url)!r} is no plain https URL")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"https://{host}" if port in (None, 443) else f"https://{host}:{port}"


def _is_below(host: str, suffix: str) -> bool:
    return host.endswith(f".{suffix}") and host.count(".") == suffix.count(".") + 1
