"""The load balancer document, and the public IP addresses of a machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .json_object import JsonObject, converted_field, int_field, list_field, text_field, to_text

if TYPE_CHECKING:
    from .instance import Instance


def _to_address(value: object, path: str) -> str | None:
    """Convert an address to the form that `ipaddress` reads; IPv6 addresses come in brackets."""
    text = (to_text(value, path) or "").strip()
    return text.removeprefix("[").removesuffix("]") or None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frontend(JsonObject):
    """A public IP address and the private address that it forwards to."""

    frontend_ip_address: str | None = converted_field("frontendIpAddress", _to_address, None)
    private_ip_address: str | None = converted_field("privateIpAddress", _to_address, None)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InboundRule(Frontend):
    """A rule that forwards a port to the machine."""

    backend_port: int | None = int_field("backendPort")
    frontend_port: int | None = int_field("frontendPort")
    protocol: str | None = text_field("protocol")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoadBalancer(JsonObject):
    """The load balancer of the machine; empty and therefore falsy if there is none.

    https://learn.microsoft.com/azure/load-balancer/instance-metadata-service-load-balancer
    """

    public_ip_addresses: tuple[Frontend, ...] = list_field("publicIpAddresses", Frontend)
    inbound_rules: tuple[InboundRule, ...] = list_field("inboundRules", InboundRule)
    outbound_rules: tuple[Frontend, ...] = list_field("outboundRules", Frontend)


def public_ips(instance: Instance, balancer: LoadBalancer) -> tuple[str, ...]:
    """Return the machine's public IP addresses without duplicates.

    Addresses of Basic SKU come first. They are in the instance document only, addresses of
    Standard SKU in the load balancer document only.

    Args:
        instance: the instance document.
        balancer: the load balancer document.
    """
    own = (
        address.public_ip_address
        for interface in instance.network.interfaces
        for configuration in (interface.ipv4, interface.ipv6)
        for address in configuration.ip_addresses
    )
    balanced = (frontend.frontend_ip_address for frontend in balancer.public_ip_addresses)
    return tuple(dict.fromkeys(address for address in (*own, *balanced) if address))
