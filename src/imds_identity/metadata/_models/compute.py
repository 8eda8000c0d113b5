"""The documents of the metadata service as typed objects.

Names are the service's own in Python's spelling: ``vmId`` is `vm_id`. An object that a document
does not have is an empty one, which is false, so ``compute.storage_profile.os_disk.name`` is None
and never an error; what an empty string says is None as well.

https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service
"""

from __future__ import annotations

from dataclasses import dataclass

from ..clouds import Cloud, cloud_named, is_stack_hub
from .node import Node, flag, node, nodes, number, text
from .tags import read_tags


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference(Node):
    """Another resource of Azure."""

    id: str | None = text("id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(Node):
    """The plan of a Marketplace image."""

    name: str | None = text("name")
    product: str | None = text("product")
    publisher: str | None = text("publisher")


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey(Node):
    """An SSH key and the file it was put into."""

    key_data: str | None = text("keyData")
    path: str | None = text("path")


@dataclass(frozen=True, slots=True, kw_only=True)
class OsProfile(Node):
    """How the operating system was set up."""

    admin_username: str | None = text("adminUsername")
    computer_name: str | None = text("computerName")
    disable_password_authentication: bool | None = flag("disablePasswordAuthentication")


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityProfile(Node):
    """What protects the machine."""

    encryption_at_host: bool | None = flag("encryptionAtHost")
    secure_boot_enabled: bool | None = flag("secureBootEnabled")
    security_type: str | None = text("securityType")
    virtual_tpm_enabled: bool | None = flag("virtualTpmEnabled")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtendedLocation(Node):
    """The edge zone that the machine is in."""

    name: str | None = text("name")
    type: str | None = text("type")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdditionalCapabilities(Node):
    """What was switched on for the machine."""

    hibernation_enabled: bool | None = flag("hibernationEnabled")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageReference(Node):
    """The image that the machine was made from."""

    community_gallery_image_id: str | None = text("communityGalleryImageId")
    exact_version: str | None = text("exactVersion")
    id: str | None = text("id")
    offer: str | None = text("offer")
    publisher: str | None = text("publisher")
    shared_gallery_image_id: str | None = text("sharedGalleryImageId")
    sku: str | None = text("sku")
    version: str | None = text("version")


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskFile(Node):
    """A virtual hard disk in a storage account."""

    uri: str | None = text("uri")


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagedDisk(Node):
    """A disk that Azure manages."""

    id: str | None = text("id")
    storage_account_type: str | None = text("storageAccountType")


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskEncryptionKey(Node):
    """A secret of a key vault that encrypts a disk."""

    secret_url: str | None = text("secretUrl")
    source_vault: Reference = node("sourceVault", Reference)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyEncryptionKey(Node):
    """A key of a key vault that encrypts the key of a disk."""

    key_url: str | None = text("keyUrl")
    source_vault: Reference = node("sourceVault", Reference)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncryptionSettings(Node):
    """How a disk is encrypted."""

    disk_encryption_key: DiskEncryptionKey = node("diskEncryptionKey", DiskEncryptionKey)
    enabled: bool | None = flag("enabled")
    key_encryption_key: KeyEncryptionKey = node("keyEncryptionKey", KeyEncryptionKey)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffDiskSettings(Node):
    """Where an ephemeral disk lies."""

    option: str | None = text("option")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Disk(Node):
    caching: str | None = text("caching")
    create_option: str | None = text("createOption")
    disk_size_gb: int | None = number("diskSizeGB")
    image: DiskFile = node("image", DiskFile)
    managed_disk: ManagedDisk = node("managedDisk", ManagedDisk)
    name: str | None = text("name")
    vhd: DiskFile = node("vhd", DiskFile)
    write_accelerator_enabled: bool | None = flag("writeAcceleratorEnabled")


@dataclass(frozen=True, slots=True, kw_only=True)
class OsDisk(_Disk):
    """The disk that the machine starts from; its size is in GiB."""

    diff_disk_settings: DiffDiskSettings = node("diffDiskSettings", DiffDiskSettings)
    encryption_settings: EncryptionSettings = node("encryptionSettings", EncryptionSettings)
    os_type: str | None = text("osType")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataDisk(_Disk):
    """A disk for data; its size is in GiB, its capacity in bytes."""

    bytes_per_second_throttle: int | None = number("bytesPerSecondThrottle")
    disk_capacity_bytes: int | None = number("diskCapacityBytes")
    is_shared_disk: bool | None = flag("isSharedDisk")
    is_ultra_disk: bool | None = flag("isUltraDisk")
    lun: int | None = number("lun")
    ops_per_second_throttle: int | None = number("opsPerSecondThrottle")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceDisk(Node):
    """The local temporary disk; its size is in kB."""

    size: int | None = number("size")


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageProfile(Node):
    """The machine's disks and image."""

    data_disks: tuple[DataDisk, ...] = nodes("dataDisks", DataDisk)
    image_reference: ImageReference = node("imageReference", ImageReference)
    os_disk: OsDisk = node("osDisk", OsDisk)
    resource_disk: ResourceDisk = node("resourceDisk", ResourceDisk)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag(Node):
    """A tag, as ``tagsList`` has it."""

    name: str | None = text("name")
    value: str | None = text("value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute(Node):
    """What the machine is, and where it runs.

    `custom_data` and `user_data`, in base64, may hold secrets and stay out of the repr.
    """

    additional_capabilities: AdditionalCapabilities = node(
        "additionalCapabilities", AdditionalCapabilities
    )
    az_environment: str | None = text("azEnvironment")
    custom_data: str | None = text("customData", shown=False)
    eviction_policy: str | None = text("evictionPolicy")
    extended_location: ExtendedLocation = node("extendedLocation", ExtendedLocation)
    host: Reference = node("host", Reference)
    host_group: Reference = node("hostGroup", Reference)
    is_host_compatibility_layer_vm: bool | None = flag("isHostCompatibilityLayerVm")
    license_type: str | None = text("licenseType")
    location: str | None = text("location")
    name: str | None = text("name")
    offer: str | None = text("offer")
    os_profile: OsProfile = node("osProfile", OsProfile)
    os_type: str | None = text("osType")
    physical_zone: str | None = text("physicalZone")
    placement_group_id: str | None = text("placementGroupId")
    plan: Plan = node("plan", Plan)
    platform_fault_domain: int | None = number("platformFaultDomain")
    platform_sub_fault_domain: int | None = number("platformSubFaultDomain")
    platform_update_domain: int | None = number("platformUpdateDomain")
    priority: str | None = text("priority")
    provider: str | None = text("provider")
    public_keys: tuple[PublicKey, ...] = nodes("publicKeys", PublicKey)
    publisher: str | None = text("publisher")
    resource_group_name: str | None = text("resourceGroupName")
    resource_id: str | None = text("resourceId")
    security_profile: SecurityProfile = node("securityProfile", SecurityProfile)
    sku: str | None = text("sku")
    storage_profile: StorageProfile = node("storageProfile", StorageProfile)
    subscription_id: str | None = text("subscriptionId")
    tags_text: str | None = text("tags")
    tags_list: tuple[Tag, ...] = nodes("tagsList", Tag)
    user_data: str | None = text("userData", shown=False)
    version: str | None = text("version")
    virtual_machine_scale_set: Reference = node("virtualMachineScaleSet", Reference)
    vm_id: str | None = text("vmId")
    vm_scale_set_name: str | None = text("vmScaleSetName")
    vm_size: str | None = text("vmSize")
    zone: str | None = text("zone")

    @property
    def tags(self) -> dict[str, str]:
        """The tags by name: from ``tagsList``, or from ``tags`` of versions before 2019-06-04."""
        if "tagsList" in self.raw:
            return {tag.name: tag.value or "" for tag in self.tags_list if tag.name}
        return read_tags(self.tags_text or "")

    @property
    def is_stack_hub(self) -> bool:
        """Whether the machine runs on Azure Stack Hub."""
        return is_stack_hub(self.az_environment)

    @property
    def cloud(self) -> Cloud | None:
        """The cloud's endpoints; None where the document names no cloud that has fixed ones."""
        try:
            return cloud_named(self.az_environment or "")
        except ValueError:
            return None
