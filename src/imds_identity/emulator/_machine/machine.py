"""The emulated machine, and the ``compute`` part of its instance document."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .._field_types import named_attributes, validate_fields
from .defaults import (
    DEFAULT_COMPUTE,
    DEFAULT_DATA_DISK,
    DEFAULT_LOAD_BALANCER,
    DEFAULT_NETWORK,
    DEFAULT_TAGS,
    WINDOWS_COMPUTE,
)
from .identities import DEFAULT_RESOURCE_GROUP, DEFAULT_SUBSCRIPTION

DEFAULT_NAME = "emulated-machine"
ENVIRONMENTS = (
    "AzurePublicCloud", "AzureUSGovernmentCloud", "AzureChinaCloud", "AzureGermanCloud",
    "AzureStack",
)  # fmt: skip
_VM_TYPE = "Microsoft.Compute/virtualMachines"
_SCALE_SET_TYPE = "Microsoft.Compute/virtualMachineScaleSets"


@named_attributes
@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The emulated machine.

    Attributes:
        name: its resource name.
        tenant_id: the Entra tenant of its identities.
        subscription_id: its subscription.
        resource_group: its resource group.
        location: its Azure region.
        vm_id: its unique id.
        vm_size: its size.
        os_type: ``Linux`` or ``Windows``.
        environment: its cloud, as in ``azEnvironment``.
        zone: its availability zone; empty for none.
        scale_set: the name of its scale set; empty for none. Unless a name is given, the machine
            is the first instance, such as ``web_0``.
        tags: its tags.
        user_data: its user data, in base64.
        compute: other fields of the instance document's ``compute``, merged over the defaults.
        network: the instance document's ``network``.
        load_balancer: the document of the load balancer category; None or empty for a machine
            without a load balancer.

    Raises:
        ValueError: if an attribute is not valid; the message names it.
    """

    name: str = DEFAULT_NAME
    tenant_id: str = "abd8daee-d393-4239-9377-883adda3d40f"
    subscription_id: str = DEFAULT_SUBSCRIPTION
    resource_group: str = DEFAULT_RESOURCE_GROUP
    location: str = "westeurope"
    vm_id: str = "02aab8a4-74ef-476e-8182-f6d2ba4166a6"
    vm_size: str = "Standard_D2s_v5"
    os_type: str = "Linux"
    environment: str = "AzurePublicCloud"
    zone: str = "1"
    scale_set: str = ""
    tags: Mapping[str, str] = field(default_factory=lambda: dict(DEFAULT_TAGS))
    user_data: str = ""
    compute: Mapping[str, Any] = field(default_factory=dict)
    network: Mapping[str, Any] = field(default_factory=lambda: copy.deepcopy(DEFAULT_NETWORK))
    load_balancer: Mapping[str, Any] | None = field(
        default_factory=lambda: copy.deepcopy(DEFAULT_LOAD_BALANCER)
    )

    def __post_init__(self) -> None:
        validate_fields(self, "A machine's ")
        if self.scale_set and self.name == DEFAULT_NAME:
            object.__setattr__(self, "name", f"{self.scale_set}_0")
        if self.environment not in ENVIRONMENTS:
            raise ValueError(
                f"environment must be one of {', '.join(ENVIRONMENTS)}, not {self.environment!r}."
            )
        if self.os_type not in ("Linux", "Windows"):
            raise ValueError(f"os_type must be Linux or Windows, not {self.os_type!r}.")
        for name, value in (("compute", self.compute), ("network", self.network)):
            _require_strings(value, name)
        _require_strings(self.tags, "tags")
        if not {"tags", "tagsList"}.isdisjoint(self.compute):
            raise ValueError(
                "compute cannot include tags or tagsList: set tags, from which both are generated."
            )

    def resource_id(self, provider: str) -> str:
        """Return its ARM resource id.

        Args:
            provider: the provider and type, such as ``Microsoft.Compute/virtualMachines``.
        """
        instance = self._scale_set_instance()
        if instance is not None and provider == _VM_TYPE:
            return f"{self._resource(_SCALE_SET_TYPE, self.scale_set)}/virtualMachines/{instance}"
        return self._resource(provider, self.name)

    def _scale_set_instance(self) -> int | None:
        """Return its number in a uniform scale set; None for other machines."""
        number = self.name.removeprefix(f"{self.scale_set}_")
        return int(number) if self.scale_set and number.isdecimal() else None

    def _resource(self, provider: str, name: str) -> str:
        return (
            f"/subscriptions/{self.subscription_id}/resourceGroups/{self.resource_group}"
            f"/providers/{provider}/{name}"
        )

    def full_compute(self, resource_id: str) -> dict[str, Any]:
        """Return ``compute`` with the fields of all api-versions.

        Args:
            resource_id: the machine's ARM resource id.
        """
        disk = f"{self.name}_OsDisk"
        own = {
            "azEnvironment": self.environment,
            "location": self.location,
            "name": self.name,
            "osType": self.os_type,
            "resourceGroupName": self.resource_group,
            "resourceId": resource_id,
            "subscriptionId": self.subscription_id,
            "tags": ";".join(f"{name}:{value}" for name, value in self.tags.items()),
            "tagsList": [{"name": name, "value": value} for name, value in self.tags.items()],
            "userData": self.user_data,
            "vmId": self.vm_id,
            "vmSize": self.vm_size,
            "zone": self.zone,
            "osProfile": {"computerName": self._computer_name()},
            "storageProfile": {
                "osDisk": {
                    "managedDisk": {"id": self._resource("Microsoft.Compute/disks", disk)},
                    "name": disk,
                    "osType": self.os_type,
                }
            },
            **self._scale_set_fields(),
        }
        os_defaults = WINDOWS_COMPUTE if self.os_type == "Windows" else {}
        compute = _merged(DEFAULT_COMPUTE, os_defaults, own, self.compute)
        storage = compute["storageProfile"]
        if isinstance(storage, dict) and isinstance(storage.get("dataDisks"), list):
            disks = storage["dataDisks"]
            storage["dataDisks"] = [
                _merged(DEFAULT_DATA_DISK, disk) if isinstance(disk, dict) else disk
                for disk in disks
            ]
        return compute

    def _computer_name(self) -> str:
        instance = self._scale_set_instance()
        return self.name if instance is None else f"{self.scale_set}{instance:06}"

    def _scale_set_fields(self) -> dict[str, object]:
        if not self.scale_set:
            return {}
        group = uuid.uuid5(uuid.NAMESPACE_URL, self.scale_set)
        return {
            "placementGroupId": str(group) if self._scale_set_instance() is not None else "",
            "virtualMachineScaleSet": {"id": self._resource(_SCALE_SET_TYPE, self.scale_set)},
            "vmScaleSetName": self.scale_set,
        }


def _merged(*layers: Mapping[str, object]) -> dict[str, Any]:
    """Return a copy of the layers merged; later layers take precedence."""
    result: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            if isinstance(value, Mapping) and isinstance(result.get(name), dict):
                result[name] = _merged(result[name], value)
            else:
                result[name] = copy.deepcopy(value)
    return result


def _require_strings(value: object, where: str) -> None:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            _require_strings(inner, f"{where}.{name}")
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            _require_strings(inner, f"{where}[{index}]")
    elif not isinstance(value, str):
        raise ValueError(  # noqa: TRY004 - callers expect ValueError
            f"{where} must be a string, like every value of the document."
        )
