"""The instance document as a whole, and the machine's network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..._core.failure import Malformed
from .compute import Compute
from .node import Node, mac, node, nodes, number, text, wrong_shape


@dataclass(frozen=True, slots=True, kw_only=True)
class IpAddress(Node):
    """An address of an interface. A public one of Standard SKU is only in the load balancer's."""

    private_ip_address: str | None = text("privateIpAddress")
    public_ip_address: str | None = text("publicIpAddress")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subnet(Node):
    """A subnet; its prefix is a number of bits."""

    address: str | None = text("address")
    prefix: int | None = number("prefix")


@dataclass(frozen=True, slots=True, kw_only=True)
class IpConfiguration(Node):
    """An interface's addresses of one IP version."""

    ip_addresses: tuple[IpAddress, ...] = nodes("ipAddress", IpAddress)
    subnets: tuple[Subnet, ...] = nodes("subnet", Subnet)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface(Node):
    """A network interface."""

    ipv4: IpConfiguration = node("ipv4", IpConfiguration)
    ipv6: IpConfiguration = node("ipv6", IpConfiguration)
    mac_address: str | None = mac("macAddress")


@dataclass(frozen=True, slots=True, kw_only=True)
class Network(Node):
    """The machine's network interfaces."""

    interfaces: tuple[Interface, ...] = nodes("interface", Interface)


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance(Node):
    """The document of ``/metadata/instance``."""

    compute: Compute = node("compute", Compute)
    network: Network = node("network", Network)


_OF_COMPUTE = frozenset(each.metadata["json"] for each in fields(Compute) if each.metadata)


def instance_from(document: Any) -> Instance:
    """The instance that ``document`` describes: a whole document, or one of compute alone.

    Raises:
        Malformed: if it is neither.
    """
    if not isinstance(document, Mapping):
        raise wrong_shape(document, "", "an object")
    if document.keys() & {"compute", "network"}:
        return Instance.parse(document)
    if document.keys() & _OF_COMPUTE:
        return Instance(raw=document, compute=Compute.parse(document, "compute"))
    raise Malformed("the document has no compute and no network, so it is no instance's")
