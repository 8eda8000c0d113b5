"""The default values of a machine's instance document."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_TAGS: Mapping[str, str] = {"environment": "emulated", "owner": "you"}
DEFAULT_NETWORK: Mapping[str, object] = {
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
DEFAULT_LOAD_BALANCER: Mapping[str, object] = {
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
DEFAULT_COMPUTE: Mapping[str, object] = {
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
WINDOWS_COMPUTE: Mapping[str, object] = {
    **_WINDOWS_IMAGE,
    "osProfile": {"disablePasswordAuthentication": ""},
    "publicKeys": [],
    "storageProfile": {
        "imageReference": {**_WINDOWS_IMAGE, "exactVersion": "20348.4294.251020"},
        "osDisk": {"diskSizeGB": "127"},
    },
    "version": "20348.4294.251020",
}
