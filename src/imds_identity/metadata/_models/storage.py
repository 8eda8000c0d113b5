"""The disks and the image of a machine."""

from __future__ import annotations

from dataclasses import dataclass

from .json_object import JsonObject, bool_field, int_field, list_field, object_field, text_field


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reference(JsonObject):
    """A reference to another Azure resource."""

    id: str | None = text_field("id")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageReference(JsonObject):
    """The image that the machine was created from."""

    community_gallery_image_id: str | None = text_field("communityGalleryImageId")
    exact_version: str | None = text_field("exactVersion")
    id: str | None = text_field("id")
    offer: str | None = text_field("offer")
    publisher: str | None = text_field("publisher")
    shared_gallery_image_id: str | None = text_field("sharedGalleryImageId")
    sku: str | None = text_field("sku")
    version: str | None = text_field("version")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DiskFile(JsonObject):
    """A virtual hard disk file in a storage account."""

    uri: str | None = text_field("uri")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ManagedDisk(JsonObject):
    """A managed disk."""

    id: str | None = text_field("id")
    storage_account_type: str | None = text_field("storageAccountType")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DiskEncryptionKey(JsonObject):
    """The Key Vault secret that encrypts a disk."""

    secret_url: str | None = text_field("secretUrl")
    source_vault: Reference = object_field("sourceVault", Reference)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KeyEncryptionKey(JsonObject):
    """The Key Vault key that encrypts the disk encryption key."""

    key_url: str | None = text_field("keyUrl")
    source_vault: Reference = object_field("sourceVault", Reference)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EncryptionSettings(JsonObject):
    """Encryption settings of a disk."""

    disk_encryption_key: DiskEncryptionKey = object_field("diskEncryptionKey", DiskEncryptionKey)
    enabled: bool | None = bool_field("enabled")
    key_encryption_key: KeyEncryptionKey = object_field("keyEncryptionKey", KeyEncryptionKey)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DiffDiskSettings(JsonObject):
    """The placement of an ephemeral disk."""

    option: str | None = text_field("option")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Disk(JsonObject):
    caching: str | None = text_field("caching")
    create_option: str | None = text_field("createOption")
    diff_disk_settings: DiffDiskSettings = object_field("diffDiskSettings", DiffDiskSettings)
    disk_size_gb: int | None = int_field("diskSizeGB")
    image: DiskFile = object_field("image", DiskFile)
    managed_disk: ManagedDisk = object_field("managedDisk", ManagedDisk)
    name: str | None = text_field("name")
    vhd: DiskFile = object_field("vhd", DiskFile)
    write_accelerator_enabled: bool | None = bool_field("writeAcceleratorEnabled")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OsDisk(_Disk):
    """The operating system disk; its size is in GiB."""

    encryption_settings: EncryptionSettings = object_field("encryptionSettings", EncryptionSettings)
    os_type: str | None = text_field("osType")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DataDisk(_Disk):
    """A data disk; its size is in GiB, its capacity in bytes."""

    bytes_per_second_throttle: int | None = int_field("bytesPerSecondThrottle")
    disk_capacity_bytes: int | None = int_field("diskCapacityBytes")
    is_shared_disk: bool | None = bool_field("isSharedDisk")
    is_ultra_disk: bool | None = bool_field("isUltraDisk")
    lun: int | None = int_field("lun")
    ops_per_second_throttle: int | None = int_field("opsPerSecondThrottle")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ResourceDisk(JsonObject):
    """The local temporary disk; its size is in kB."""

    size: int | None = int_field("size")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StorageProfile(JsonObject):
    """The disks and the image of the machine."""

    data_disks: tuple[DataDisk, ...] = list_field("dataDisks", DataDisk)
    image_reference: ImageReference = object_field("imageReference", ImageReference)
    os_disk: OsDisk = object_field("osDisk", OsDisk)
    resource_disk: ResourceDisk = object_field("resourceDisk", ResourceDisk)
