"""What the emulated machine is, and what its instance document says of it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .identities import DEFAULT_RESOURCE_GROUP, DEFAULT_SUBSCRIPTION

ENVIRONMENTS = (
    "AzurePublicCloud",
    "AzureUSGovernmentCloud",
    "AzureChinaCloud",
    "AzureGermanCloud",
    "AzureStack",
)
DEFAULT_TAGS: Mapping[str, str] = {"environment": "emulated", "owner": "you"}
DEFAULT_NETWORK: Mapping[str, Any] = {
    "interface": [
        {
            "ipv4": {
                "ipAddress": [{"privateIpAddress": "10.0.0.4", "publicIpAddress": "203.0.113.4"}],
                "subnet": [{"address": "10.0.0.0", "prefix": "24"}],
            },
            "ipv6": {"ipAddress": []},
            "macAddress": "000D3A000004",
        }
    ]
}
DEFAULT_LOAD_BALANCER: Mapping[str, Any] = {
    "publicIpAddresses": [{"frontendIpAddress": "203.0.113.10", "privateIpAddress": "10.0.0.4"}],
    "inboundRules": [
        {
            "frontendIpAddress": "203.0.113.10",
            "protocol": "tcp",
            "frontendPort": 443,
            "backendPort": 8443,
            "privateIpAddress": "10.0.0.4",
        }
    ],
    "outboundRules": [{"frontendIpAddress": "203.0.113.10", "privateIpAddress": "10.0.0.4"}],
}


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
        environment: its cloud, as ``azEnvironment`` names it.
        zone: its availability zone; empty for none.
        tags: its tags.
        user_data: its user data, in base64.
        compute: anything else of the instance document's ``compute``, merged over the defaults.
        network: the instance document's ``network``.
        load_balancer: what the load balancer category shows; None, or an
            empty one, for a machine behind none.
    """

    name: str = "emulated-machine"
    tenant_id: str = "abd8daee-d393-4239-9377-883adda3d40f"
    subscription_id: str = DEFAULT_SUBSCRIPTION
    resource_group: str = DEFAULT_RESOURCE_GROUP
    location: str = "westeurope"
    vm_id: str = "02aab8a4-74ef-476e-8182-f6d2ba4166a6"
    vm_size: str = "Standard_D2s_v5"
    os_type: str = "Linux"
    environment: str = "AzurePublicCloud"
    zone: str = "1"
    tags: Mapping[str, str] = field(default_factory=lambda: dict(DEFAULT_TAGS))
    user_data: str = ""
    compute: Mapping[str, Any] = field(default_factory=dict)
    network: Mapping[str, Any] = field(default_factory=lambda: copy.deepcopy(DEFAULT_NETWORK))
    load_balancer: Mapping[str, Any] | None = field(
        default_factory=lambda: copy.deepcopy(DEFAULT_LOAD_BALANCER)
    )

    def __post_init__(self) -> None:
        """Refuse what no machine's document can say."""
        if self.environment not in ENVIRONMENTS:
            raise ValueError(
                f"environment must be one of {', '.join(ENVIRONMENTS)}, not {self.environment!r}."
            )
        for name, value in (("compute", self.compute), ("network", self.network)):
            _require_strings(value, name)
        _require_strings(self.tags, "tags")
        if not {"tags", "tagsList"}.isdisjoint(self.compute):
            raise ValueError("compute shows tags in two forms: give tags, and both are right.")

    def resource_id(self, provider: str) -> str:
        """Its ARM resource id.

        Args:
            provider: the provider and type, such as ``Microsoft.Compute/virtualMachines``.
        """
        return (
            f"/subscriptions/{self.subscription_id}/resourceGroups/{self.resource_group}"
            f"/providers/{provider}/{self.name}"
        )

    def full_compute(self, resource_id: str) -> dict[str, Any]:
        """``compute`` with every field that any api-version has.

        Args:
            resource_id: the machine's ARM resource id.
        """
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
            "osProfile": {"computerName": self.name},
            "storageProfile": {"osDisk": {"name": f"{self.name}_OsDisk", "osType": self.os_type}},
        }
        installed = _WINDOWS_COMPUTE if self.os_type == "Windows" else {}
        return _merged(_DEFAULT_COMPUTE, installed, own, self.compute)


def _merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of all layers together, where what a later one says goes before."""
    result: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            if isinstance(value, Mapping) and isinstance(result.get(name), dict):
                result[name] = _merged(result[name], value)
            else:
                result[name] = copy.deepcopy(value)
    return result


def _require_strings(value: Any, where: str) -> None:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            _require_strings(inner, f"{where}.{name}")
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            _require_strings(inner, f"{where}[{index}]")
    elif not isinstance(value, str):
        raise ValueError(  # noqa: TRY004 - a bad value, like every other here
            f"{where} must be a string, as every value of the document is."
        )


_DEFAULT_COMPUTE: Mapping[str, Any] = {
    "additionalCapabilities": {"hibernationEnabled": "false"},
    "customData": "",
    "evictionPolicy": "",
    "extendedLocation": {"type": "", "name": ""},
    "host": {"id": ""},
    "hostGroup": {"id": ""},
    "isHostCompatibilityLayerVm": "false",
    "licenseType": "",
    "offer": "ubuntu-24_04-lts",
    "osProfile": {
        "adminUsername": "azureuser",
        "computerName": "",
        "disablePasswordAuthentication": "true",
    },
    "physicalZone": "westeurope-AZ01",
    "placementGroupId": "",
    "plan": {"name": "", "product": "", "publisher": ""},
    "platformFaultDomain": "0",
    "platformSubFaultDomain": "",
    "platformUpdateDomain": "0",
    "priority": "Regular",
    "provider": "Microsoft.Compute",
    "publicKeys": [
        {"keyData": "ssh-ed25519 emulated", "path": "/home/azureuser/.ssh/authorized_keys"}
    ],
    "publisher": "canonical",
    "securityProfile": {
        "encryptionAtHost": "false",
        "secureBootEnabled": "true",
        "securityType": "TrustedLaunch",
        "virtualTpmEnabled": "true",
    },
    "sku": "server",
    "storageProfile": {
        "dataDisks": [],
        "imageReference": {
            "communityGalleryImageId": "",
            "exactVersion": "24.04.202611010",
            "id": "",
            "offer": "ubuntu-24_04-lts",
            "publisher": "canonical",
            "sharedGalleryImageId": "",
            "sku": "server",
            "version": "latest",
        },
        "osDisk": {
            "caching": "ReadWrite",
            "createOption": "FromImage",
            "diffDiskSettings": {"option": ""},
            "diskSizeGB": "30",
            "encryptionSettings": {"enabled": "false"},
            "image": {"uri": ""},
            "managedDisk": {"id": "", "storageAccountType": "Premium_LRS"},
            "name": "",
            "osType": "",
            "vhd": {"uri": ""},
            "writeAcceleratorEnabled": "false",
        },
        "resourceDisk": {"size": "16384"},
    },
    "version": "24.04.202611010",
    "virtualMachineScaleSet": {"id": ""},
    "vmScaleSetName": "",
}
_WINDOWS_IMAGE = {
    "offer": "WindowsServer",
    "publisher": "MicrosoftWindowsServer",
    "sku": "2022-datacenter-azure-edition",
}
_WINDOWS_COMPUTE: Mapping[str, Any] = {
    **_WINDOWS_IMAGE,
    "osProfile": {"disablePasswordAuthentication": ""},
    "publicKeys": [],
    "storageProfile": {
        "imageReference": {**_WINDOWS_IMAGE, "exactVersion": "20348.4294.251020"},
        "osDisk": {"diskSizeGB": "127"},
    },
    "version": "20348.4294.251020",
}
