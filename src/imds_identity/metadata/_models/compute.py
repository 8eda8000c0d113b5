"""The compute document.

Attributes have the service's names in snake case: ``vmId`` is `vm_id`. An object that is missing in
a document is empty and therefore falsy. So ``compute.storage_profile.os_disk.name`` never raises an
exception; it is None if an object is missing or the string is empty.

https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service
"""

from __future__ import annotations

from base64 import b64decode
from dataclasses import dataclass
from typing import NamedTuple

from ..clouds import Cloud, cloud_named, is_stack_hub
from .json_object import (
    JsonObject,
    bool_field,
    int_field,
    list_field,
    object_field,
    text_field,
    to_text,
)
from .storage import Reference, StorageProfile

# /subscriptions/…/resourceGroups/…/providers/Microsoft.Compute/virtualMachineScaleSets/SET/
# virtualMachines/INSTANCE
_SET = 8
_INSTANCE = 10


class ScaleSet(NamedTuple):
    """The scale set of a machine.

    Attributes:
        name: its name.
        id: its resource ID; None if the service returned the name only.
        instance_id: the machine's number in a set with uniform orchestration, otherwise None.
    """

    name: str
    id: str | None = None
    instance_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan(JsonObject):
    """The plan of a Marketplace image."""

    name: str | None = text_field("name")
    product: str | None = text_field("product")
    publisher: str | None = text_field("publisher")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PublicKey(JsonObject):
    """An SSH public key and the path of the file that contains it."""

    key_data: str | None = text_field("keyData")
    path: str | None = text_field("path")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OsProfile(JsonObject):
    """Settings of the operating system."""

    admin_username: str | None = text_field("adminUsername")
    computer_name: str | None = text_field("computerName")
    disable_password_authentication: bool | None = bool_field("disablePasswordAuthentication")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SecurityProfile(JsonObject):
    """Security settings of the machine."""

    encryption_at_host: bool | None = bool_field("encryptionAtHost")
    secure_boot_enabled: bool | None = bool_field("secureBootEnabled")
    security_type: str | None = text_field("securityType")
    virtual_tpm_enabled: bool | None = bool_field("virtualTpmEnabled")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExtendedLocation(JsonObject):
    """The edge zone of the machine."""

    name: str | None = text_field("name")
    type: str | None = text_field("type")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AdditionalCapabilities(JsonObject):
    """Optional capabilities of the machine."""

    hibernation_enabled: bool | None = bool_field("hibernationEnabled")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tag(JsonObject):
    """A tag of ``tagsList``."""

    name: str | None = text_field("name")
    value: str | None = text_field("value")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Compute(JsonObject):
    """The properties and the location of the machine.

    `custom_data` and `user_data` may contain secrets: neither the repr nor `dataclasses.asdict` has
    them.
    """

    SECRETS = frozenset({"customData", "userData"})

    additional_capabilities: AdditionalCapabilities = object_field(
        "additionalCapabilities", AdditionalCapabilities
    )
    az_environment: str | None = text_field("azEnvironment")
    eviction_policy: str | None = text_field("evictionPolicy")
    extended_location: ExtendedLocation = object_field("extendedLocation", ExtendedLocation)
    host: Reference = object_field("host", Reference)
    host_group: Reference = object_field("hostGroup", Reference)
    interconnect_group_id: str | None = text_field("interconnectGroupId")
    interconnect_subgroup_id: str | None = text_field("interconnectSubgroupId")
    is_host_compatibility_layer_vm: bool | None = bool_field("isHostCompatibilityLayerVm")
    is_vm_in_standby_pool: bool | None = bool_field("isVmInStandbyPool")
    license_type: str | None = text_field("licenseType")
    location: str | None = text_field("location")
    name: str | None = text_field("name")
    offer: str | None = text_field("offer")
    os_profile: OsProfile = object_field("osProfile", OsProfile)
    os_type: str | None = text_field("osType")
    physical_zone: str | None = text_field("physicalZone")
    placement_group_id: str | None = text_field("placementGroupId")
    plan: Plan = object_field("plan", Plan)
    platform_fault_domain: int | None = int_field("platformFaultDomain")
    platform_sub_fault_domain: int | None = int_field("platformSubFaultDomain")
    platform_update_domain: int | None = int_field("platformUpdateDomain")
    priority: str | None = text_field("priority")
    provider: str | None = text_field("provider")
    public_keys: tuple[PublicKey, ...] = list_field("publicKeys", PublicKey)
    publisher: str | None = text_field("publisher")
    resource_group_name: str | None = text_field("resourceGroupName")
    resource_id: str | None = text_field("resourceId")
    security_profile: SecurityProfile = object_field("securityProfile", SecurityProfile)
    sku: str | None = text_field("sku")
    storage_profile: StorageProfile = object_field("storageProfile", StorageProfile)
    subscription_id: str | None = text_field("subscriptionId")
    system_fault_domain: int | None = int_field("systemFaultDomain")
    tags_text: str | None = text_field("tags")
    tags_list: tuple[Tag, ...] = list_field("tagsList", Tag)
    version: str | None = text_field("version")
    virtual_machine_scale_set: Reference = object_field("virtualMachineScaleSet", Reference)
    vm_id: str | None = text_field("vmId")
    vm_scale_set_name: str | None = text_field("vmScaleSetName")
    vm_size: str | None = text_field("vmSize")
    zone: str | None = text_field("zone")

    @property
    def tags(self) -> dict[str, str]:
        """The tags by name: from ``tagsList``, or from ``tags`` before API version 2019-06-04."""
        if self.tags_list:
            return {tag.name: tag.value or "" for tag in self.tags_list if tag.name}
        return parse_tags(self.tags_text or "")

    @property
    def scale_set(self) -> ScaleSet | None:
        """The scale set of the machine, whichever field names it; None if there is none."""
        path = (self.resource_id or "").split("/")
        if len(path) > _INSTANCE and path[_SET - 1].lower() == "virtualmachinescalesets":
            return ScaleSet(path[_SET], "/".join(path[: _SET + 1]), path[_INSTANCE])
        set_id = self.virtual_machine_scale_set.id
        name = self.vm_scale_set_name or (set_id or "").rpartition("/")[2]
        return ScaleSet(name, set_id) if name else None

    @property
    def custom_data(self) -> str | None:
        """The custom data in base64; it may contain secrets."""
        return to_text(self.raw.get("customData"))

    @property
    def user_data(self) -> str | None:
        """The user data in base64; it may contain secrets."""
        return to_text(self.raw.get("userData"))

    @property
    def user_data_bytes(self) -> bytes | None:
        """The decoded `user_data`; None if there is none or it is not base64."""
        try:
            return b64decode(self.user_data, validate=True) if self.user_data else None
        except ValueError:
            return None

    @property
    def is_stack_hub(self) -> bool:
        """Whether the machine runs on Azure Stack Hub."""
        return is_stack_hub(self.az_environment)

    @property
    def cloud(self) -> Cloud | None:
        """The endpoints of the cloud; None if it is unknown or has no fixed endpoints."""
        try:
            return cloud_named(self.az_environment or "")
        except ValueError:
            return None


def parse_tags(text: str) -> dict[str, str]:
    """Parse ``name:value;name:value``, the form of ``tags`` before API version 2019-06-04.

    The format is ambiguous. A part without a colon continues the value before it, which contained
    a semicolon. Further colons belong to the value.
    """
    tags: dict[str, str] = {}
    last = None
    for part in text.split(";"):
        name, colon, value = part.partition(":")
        if colon and name:
            last = name
            tags[name] = value
        elif last is not None:
            tags[last] += f";{part}"
    return tags
