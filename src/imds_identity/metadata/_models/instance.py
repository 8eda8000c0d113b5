"""The instance document and its network part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..._core.failure import Malformed, Reason
from .compute import Compute
from .json_object import (
    JsonObject,
    converted_field,
    int_field,
    is_empty,
    list_field,
    list_items,
    object_field,
    text_field,
    to_mac_address,
    to_text,
    wrong_type,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IpAddress(JsonObject):
    """An IP address. Public addresses of Standard SKU are in the load balancer document only."""

    private_ip_address: str | None = text_field("privateIpAddress")
    public_ip_address: str | None = text_field("publicIpAddress")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subnet(JsonObject):
    """A subnet; its prefix is the number of bits."""

    address: str | None = text_field("address")
    prefix: int | None = int_field("prefix")


def _to_items(value: object, path: str) -> tuple[Any, ...]:
    return tuple(item for _, item in list_items(value, path))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IpConfiguration(JsonObject):
    """The addresses and subnets of an interface for one IP version; blocks as in the document."""

    ip_addresses: tuple[IpAddress, ...] = list_field("ipAddress", IpAddress)
    ip_address_blocks: tuple[Any, ...] = converted_field("ipAddressBlock", _to_items, ())
    subnets: tuple[Subnet, ...] = list_field("subnet", Subnet)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Interface(JsonObject):
    """A network interface."""

    ipv4: IpConfiguration = object_field("ipv4", IpConfiguration)
    ipv6: IpConfiguration = object_field("ipv6", IpConfiguration)
    mac_address: str | None = converted_field("macAddress", to_mac_address, None)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Network(JsonObject):
    """The network interfaces of the machine."""

    interfaces: tuple[Interface, ...] = list_field("interface", Interface)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Instance(JsonObject):
    """The document of ``/metadata/instance``."""

    compute: Compute = object_field("compute", Compute)
    network: Network = object_field("network", Network)


_ARC_TYPE = "/providers/microsoft.hybridcompute/"


def is_partial(document: object) -> bool:
    """Return whether ``compute`` or ``network`` of a service's instance document is missing.

    The service may leave them out with HTTP 200. Only Azure Arc's agent never has ``network``.
    """
    if not isinstance(document, Mapping):
        return False
    compute, network = document.get("compute"), document.get("network")
    if is_empty(compute):
        return True
    resource_id = compute.get("resourceId") if isinstance(compute, Mapping) else None
    is_arc = _ARC_TYPE in (to_text(resource_id) or "").lower()
    return not is_arc and (is_empty(network) or network == {"interface": []})


def partial_document(missing: str) -> Malformed:
    """Return the failure for a document without the part or field ``missing``."""
    return Malformed(
        f"the metadata service returned a partial instance document, without {missing}",
        "It is starting or failing: try again in a few seconds.",
        reason=Reason.SERVICE_FAILING,
        status=200,
    )


def instance_from_json(document: object) -> Instance:
    """Return the typed form of an instance document, or of a compute document alone."""
    if not isinstance(document, Mapping):
        raise wrong_type(document, "", "an object")
    if document.keys() & {"compute", "network"}:
        return Instance.parse(document)
    if document.keys() & Compute.names():
        return Instance.with_raw(document, compute=Compute.parse(document, "compute"))
    raise Malformed("not an instance document: it has neither compute nor network")
