"""Azure clouds: the endpoints and scopes of each ``azEnvironment``.

https://learn.microsoft.com/azure/azure-government/compare-azure-government-global-azure#guidance-for-developers
https://learn.microsoft.com/azure/china/resources-developer-guide
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cloud:
    """An Azure cloud.

    Attributes:
        name: its name in ``azEnvironment`` of the instance document.
        authority: the URL of the Microsoft Entra authority.
        resource_manager: the URL of Azure Resource Manager.
        resource_manager_scope: the token scope of Azure Resource Manager.
        key_vault_suffix: the domain of key vaults.
        key_vault_scope: the token scope of Key Vault.
        storage_suffix: the domain of storage accounts, without ``blob.`` and similar labels.
        storage_scope: the token scope of Azure Storage, which is the same in every cloud.
        attestation_domain: the domain of the signers of attested documents; None if there are none.
    """

    name: str
    authority: str
    resource_manager: str
    resource_manager_scope: str
    key_vault_suffix: str
    key_vault_scope: str
    storage_suffix: str
    storage_scope: str
    attestation_domain: str | None


def _cloud(
    name: str,
    *,
    authority: str,
    resource_manager: str,
    key_vault: str,
    storage: str,
    attestation: str | None,
) -> Cloud:
    return Cloud(
        name=name,
        authority=authority,
        resource_manager=resource_manager,
        resource_manager_scope=f"{resource_manager}/.default",
        key_vault_suffix=key_vault,
        key_vault_scope=f"https://{key_vault}/.default",
        storage_suffix=storage,
        storage_scope="https://storage.azure.com/.default",
        attestation_domain=attestation,
    )


PUBLIC = _cloud(
    "AzurePublicCloud",
    authority="https://login.microsoftonline.com",
    resource_manager="https://management.azure.com",
    key_vault="vault.azure.net",
    storage="core.windows.net",
    attestation="metadata.azure.com",
)
US_GOVERNMENT = _cloud(
    "AzureUSGovernmentCloud",
    authority="https://login.microsoftonline.us",
    resource_manager="https://management.usgovcloudapi.net",
    key_vault="vault.usgovcloudapi.net",
    storage="core.usgovcloudapi.net",
    attestation="metadata.azure.us",
)
CHINA = _cloud(
    "AzureChinaCloud",
    authority="https://login.chinacloudapi.cn",
    resource_manager="https://management.chinacloudapi.cn",
    key_vault="vault.azure.cn",
    storage="core.chinacloudapi.cn",
    attestation="metadata.azure.cn",
)
# Closed in 2021. It is trusted only where a caller names it, for old documents.
GERMANY = _cloud(
    "AzureGermanCloud",
    authority="https://login.microsoftonline.de",
    resource_manager="https://management.microsoftazure.de",
    key_vault="vault.microsoftazure.de",
    storage="core.cloudapi.de",
    attestation="metadata.microsoftazure.de",
)
CLOUDS = (PUBLIC, US_GOVERNMENT, CHINA)
"""The current clouds."""
STACK_HUB = "AzureStack"

_BY_NAME = {cloud.name.upper(): cloud for cloud in (*CLOUDS, GERMANY)}
_BY_NAME |= {"AZURECLOUD": PUBLIC, "AZUREUSGOVERNMENT": US_GOVERNMENT}  # in `az cloud list`


def cloud_of_authority(url: str) -> Cloud | None:
    """Return the cloud whose authority is at ``url``, with or without a scheme; None for others."""
    host = url.rpartition("//")[2].rstrip("/").lower()
    return next((cloud for cloud in CLOUDS if cloud.authority == f"https://{host}"), None)


def is_stack_hub(environment: str | None) -> bool:
    """Return whether an ``azEnvironment`` is Azure Stack Hub, whose operator chooses endpoints."""
    return environment is not None and environment.upper() == STACK_HUB.upper()


def is_dns_name(name: str) -> bool:
    """Return whether ``name`` consists of labels with letters, digits and hyphens."""
    return name.isascii() and all(label.replace("-", "").isalnum() for label in name.split("."))


def stack_hub_cloud(region: str, domain: str, authority: str) -> Cloud:
    """Return the cloud of an Azure Stack Hub operator.

    The Resource Manager of a stamp returns the audience of its tokens at ``/metadata/endpoints``.
    It differs between stamps: `resource_manager_scope` is derived from the endpoint, so replace it
    (``dataclasses.replace``) if the stamp returns another audience.
    https://learn.microsoft.com/azure-stack/user/azure-stack-version-profiles-python

    Args:
        region: the region of the stamp, from ``location`` of the instance document.
        domain: its external domain name, for example ``azurestack.contoso.com``.
        authority: the URL of Microsoft Entra ID or AD FS.

    Returns:
        The cloud.

    Raises:
        ValueError: if a name or the URL is invalid.
    """
    for name, value in (("region", region), ("domain", domain)):
        if not is_dns_name(value):
            raise ValueError(f"{name} must be a DNS name, not {value!r}")
    if not authority.startswith("https://"):
        raise ValueError(f"authority must be an https URL, not {authority!r}")
    base = f"{region}.{domain}"
    return _cloud(
        STACK_HUB,
        authority=authority.rstrip("/"),
        resource_manager=f"https://management.{base}",
        key_vault=f"vault.{base}",
        storage=base,
        attestation=None,
    )


def cloud_named(environment: str) -> Cloud:
    """Return the cloud for an ``azEnvironment`` or a name of ``az cloud list``, ignoring case.

    Args:
        environment: for example ``AzurePublicCloud``, ``AZUREPUBLICCLOUD`` in older documents, or
            ``AzureCloud`` in the Azure CLI.

    Returns:
        The cloud.

    Raises:
        ValueError: if the name is unknown, or Azure Stack Hub: see `stack_hub_cloud`.
    """
    cloud = _BY_NAME.get(environment.upper())
    if cloud is not None:
        return cloud
    if is_stack_hub(environment):
        raise ValueError("Azure Stack Hub's operator chooses its endpoints: use stack_hub_cloud().")
    known = ", ".join(cloud.name for cloud in CLOUDS)
    raise ValueError(f"{environment!r} is not an Azure cloud; known: {known}.")
