"""Azure's clouds: what ``azEnvironment`` means for the endpoints and scopes that a program needs.

https://learn.microsoft.com/azure/azure-government/compare-azure-government-global-azure#guidance-for-developers
https://learn.microsoft.com/azure/china/resources-developer-guide
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cloud:
    """One cloud.

    Attributes:
        name: as ``azEnvironment`` of the instance document says it.
        authority: the Microsoft Entra authority that signs in, a URL.
        resource_manager: the Resource Manager endpoint, a URL.
        resource_manager_scope: the scope of its tokens.
        key_vault_suffix: what the host names of key vaults end in.
        key_vault_scope: the scope of Key Vault's tokens.
        storage_suffix: what the host names of storage accounts end in, after ``blob.`` and such.
        storage_scope: the scope of Storage's tokens, which is the same in every cloud.
        attestation_domain: whom the signer of attested documents is named after, or None where
            there are none.
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
    attestation: str,
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
GERMANY = _cloud(
    "AzureGermanCloud",
    authority="https://login.microsoftonline.de",
    resource_manager="https://management.microsoftazure.de",
    key_vault="vault.microsoftazure.de",
    storage="core.cloudapi.de",
    attestation="metadata.microsoftazure.de",
)
CLOUDS = (PUBLIC, US_GOVERNMENT, CHINA, GERMANY)
STACK_HUB = "AzureStack"

_BY_NAME = {cloud.name.upper(): cloud for cloud in CLOUDS}


def is_stack_hub(environment: str | None) -> bool:
    """Whether ``azEnvironment`` says Azure Stack Hub, whose endpoints its operator chooses."""
    return environment is not None and environment.upper() == STACK_HUB.upper()


def stack_hub_cloud(region: str, domain: str, authority: str) -> Cloud:
    """The cloud that an operator runs on Azure Stack Hub.

    Its Resource Manager tells the audience of its tokens at ``/metadata/endpoints``, which differs
    from stamp to stamp: `resource_manager_scope` holds the endpoint's own, and is to be replaced
    (``dataclasses.replace``) where that says otherwise.
    https://learn.microsoft.com/azure-stack/user/azure-stack-version-profiles-python

    Args:
        region: the stamp's region, as ``location`` of the instance document says it.
        domain: its external domain name, such as ``azurestack.contoso.com``.
        authority: the URL that signs in: Microsoft Entra's, or that of AD FS.

    Raises:
        ValueError: if one of them is no name, or no URL.
    """
    for what, value in (("region", region), ("domain", domain)):
        if not value or not all(c.isascii() and (c.isalnum() or c in ".-") for c in value):
            raise ValueError(f"{what} must be a DNS name, not {value!r}")
    if not authority.startswith("https://"):
        raise ValueError(f"authority must be an https URL, not {authority!r}")
    base = f"{region}.{domain}"
    return Cloud(
        name=STACK_HUB,
        authority=authority.rstrip("/"),
        resource_manager=f"https://management.{base}",
        resource_manager_scope=f"https://management.{base}/.default",
        key_vault_suffix=f"vault.{base}",
        key_vault_scope=f"https://vault.{base}/.default",
        storage_suffix=base,
        storage_scope="https://storage.azure.com/.default",
        attestation_domain=None,
    )


def cloud_named(environment: str) -> Cloud:
    """The cloud that ``azEnvironment`` names, in any case.

    Args:
        environment: such as ``AzurePublicCloud``, or ``AZUREPUBLICCLOUD`` of older answers.

    Raises:
        ValueError: if it names none, or Azure Stack Hub: see `stack_hub_cloud`.
    """
    cloud = _BY_NAME.get(environment.upper())
    if cloud is not None:
        return cloud
    if is_stack_hub(environment):
        raise ValueError(
            "Azure Stack Hub's endpoints are its operator's: build them with stack_hub_cloud()."
        )
    raise ValueError(
        f"{environment!r} is no cloud of Azure; known are {', '.join(c.name for c in CLOUDS)}."
    )
