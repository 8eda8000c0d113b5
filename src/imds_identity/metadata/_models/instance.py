"""The instance document and its network part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from ..._core.failure import Malformed
from .compute import Compute
from .json_object import (
    JsonObject,
    converted_field,
    int_field,
    list_field,
    object_field,
    text_field,
    to_mac_address,
    wrong_type,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class IpAddress(JsonObject):
    """An IP address. Public addresses of Standard SKU are in the load balancer document only."""

    private_ip_address: str | None = text_field("privateIpAddress")
    public_ip_address: str | None = text_field("publicIpAddress")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subnet(JsonObject):
    """A subnet; its prefix is the number of bits."""

    address: str | None = text_field("address")
    prefix: int | None = int_field("prefix")


@dataclass(frozen=True, slots=True, kw_only=True)
class IpConfiguration(JsonObject):
    """The addresses and subnets of an interface for one IP version."""

    ip_addresses: tuple[IpAddress, ...] = list_field("ipAddress", IpAddress)
    subnets: tuple[Subnet, ...] = list_field("subnet", Subnet)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface(JsonObject):
    """A network interface."""

    ipv4: IpConfiguration = object_field("ipv4", IpConfiguration)
    ipv6: IpConfiguration = object_field("ipv6", IpConfiguration)
    mac_address: str | None = converted_field("macAddress", to_mac_address, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Network(JsonObject):
    """The network interfaces of the machine."""

    interfaces: tuple[Interface, ...] = list_field("interface", Interface)


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance(JsonObject):
    """The document of ``/metadata/instance``."""

    compute: Compute = object_field("compute", Compute)
    network: Network = object_field("network", Network)


_COMPUTE_FIELDS = frozenset(each.metadata["json"] for each in fields(Compute) if each.metadata)


def instance_from_json(document: object) -> Instance:
    """Return the typed form of an instance document, or of a compute document alone."""
    if not isinstance(document, Mapping):
        raise wrong_type(document, "", "an object")
    if document.keys() & {"compute", "network"}:
        return Instance.parse(document)
    if document.keys() & _COMPUTE_FIELDS:
        return Instance(raw=document, compute=Compute.parse(document, "compute"))
    raise Malformed("not an instance document: it has neither compute nor network")
