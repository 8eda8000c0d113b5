"""The load balancer's document, and the public addresses that only it knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .node import Node, nodes, number, text

if TYPE_CHECKING:
    from .instance import Instance


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontend(Node):
    """A public address in front of one of the machine's own."""

    frontend_ip_address: str | None = text("frontendIpAddress")
    private_ip_address: str | None = text("privateIpAddress")


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundRule(Frontend):
    """What is let through to the machine."""

    backend_port: int | None = number("backendPort")
    frontend_port: int | None = number("frontendPort")
    protocol: str | None = text("protocol")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadBalancer(Node):
    """What stands in front of the machine; empty, and so false, where nothing does.

    https://learn.microsoft.com/azure/load-balancer/instance-metadata-service-load-balancer
    """

    public_ip_addresses: tuple[Frontend, ...] = nodes("publicIpAddresses", Frontend)
    inbound_rules: tuple[InboundRule, ...] = nodes("inboundRules", InboundRule)
    outbound_rules: tuple[Frontend, ...] = nodes("outboundRules", Frontend)


def public_ips(instance: Instance, balancer: LoadBalancer) -> tuple[str, ...]:
    """The machine's public addresses, each once: its interfaces', then the load balancer's.

    An address of Standard SKU is in the load balancer's document only, one of Basic SKU in the
    instance's only.
    """
    own = (
        address.public_ip_address
        for interface in instance.network.interfaces
        for configuration in (interface.ipv4, interface.ipv6)
        for address in configuration.ip_addresses
    )
    balanced = (frontend.frontend_ip_address for frontend in balancer.public_ip_addresses)
    return tuple(dict.fromkeys(address for address in (*own, *balanced) if address))
