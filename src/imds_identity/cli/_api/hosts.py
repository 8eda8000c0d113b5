"""Which hosts may receive a token, and for which resource."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..._azure_core.bearer import origin_of
from ..._core.failure import sanitize
from ..._core.source import ARC
from ..._platform.environment import variable_value
from ..._sources.registry import detect
from ...metadata._services import Service, service_at
from ...metadata.clouds import PUBLIC, Cloud, cloud_named, cloud_of_authority, is_dns_name

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

_IPV6_CHARACTERS = frozenset("0123456789abcdef:.")


def cloud_getter(args: argparse.Namespace) -> Callable[[], Cloud]:
    """Return a function that returns the cloud of ``--cloud``, or else of this machine."""
    if args.cloud is None:
        return functools.cache(functools.partial(_machine_cloud, args.source))
    cloud = cloud_named(args.cloud)
    return lambda: cloud


def service_of(host: str, cloud: Callable[[], Cloud]) -> Service | None:
    """Return the Azure service at ``host``; None if the host's name is not one of Azure's.

    Raises:
        ValueError: if it belongs to a cloud other than ``cloud``. Some resources have the same name
            in all clouds, so the host could use the token in ``cloud``.
    """
    service = service_at(host.lower())
    if service is not None:
        check_cloud(host, service.cloud, cloud())
    return service


def check_cloud(host: str, its: Cloud, own: Cloud) -> None:
    """Raise ValueError if ``host`` belongs to another cloud than this machine."""
    if its != own:
        raise ValueError(
            f"{host} belongs to {its.name}, but this machine to {own.name}: refusing to send it a "
            f"token. If it is the right host, pass --cloud {its.name}"
        )


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
    if not is_plain or "@" in urlsplit(url).netloc:
        raise ValueError(
            f"invalid URL: {sanitize(url)!r}; use https://HOST/PATH without a user name, and "
            "percent-encode special characters"
        )
    is_ipv6 = ":" in host
    # urllib decodes "%2e", and getaddrinfo removes "%" and a zone: both would change the host.
    if not (_IPV6_CHARACTERS.issuperset(host) if is_ipv6 else is_dns_name(host)):
        raise ValueError(
            f"invalid host name in {sanitize(url)!r}: use letters, digits, hyphens and dots"
        )
    host = f"[{host}]" if is_ipv6 else host
    return f"https://{host}" if port == 443 else f"https://{host}:{port}"


def _machine_cloud(source: str | None) -> Cloud:
    """Return this machine's cloud, or else the public cloud."""
    if cloud := cloud_of_authority(variable_value("AZURE_AUTHORITY_HOST")):
        return cloud
    found = detect(source)
    if not found.is_per_machine:
        return PUBLIC
    from ...metadata import MetadataClient, MetadataError

    client = MetadataClient()
    try:
        # Outside Azure, the command does not wait for a metadata service that does not exist.
        is_available = found.name == ARC or client.detect()
        name = client.get("compute/azEnvironment") if is_available else ""
    except MetadataError:
        return PUBLIC
    if not isinstance(name, str) or not name:
        return PUBLIC
    try:
        return cloud_named(name)
    except ValueError:
        raise ValueError(
            f"the hosts of this machine's cloud ({sanitize(name)}) are unknown: pass a URL and "
            "--resource, or --cloud for another cloud"
        ) from None
