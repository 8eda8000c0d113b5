"""Error codes of Microsoft Entra ID and Key Vault that concern managed identities.

https://learn.microsoft.com/entra/identity-platform/reference-error-codes
https://learn.microsoft.com/azure/key-vault/general/common-error-codes
"""

from __future__ import annotations

from typing import NamedTuple


class Code(NamedTuple):
    """What an error code means and how to fix the cause."""

    meaning: str
    remedy: str


_FEDERATED = (
    "az identity federated-credential list --identity-name NAME --resource-group GROUP; compare "
    "the issuer, subject and audience with those of the workload's federated token"
)
_RECONNECT = "on Azure Arc: azcmagent disconnect --force-local-only, then azcmagent connect"
CODES = {
    "AADSTS500011": Code(
        "the resource does not exist in the tenant: it is misspelled, is a scope, or belongs to "
        "another tenant or cloud",
        "use the resource from the service's documentation, such as https://vault.azure.net",
    ),
    "AADSTS500014": Code(
        "the resource's service principal is disabled in this tenant",
        "enable it under Enterprise applications, or ask its owner to renew the subscription",
    ),
    "AADSTS700016": Code(
        "the client does not exist in the tenant: it was deleted, or the tenant is wrong",
        "correct AZURE_CLIENT_ID and AZURE_TENANT_ID, or assign the identity again",
    ),
    "AADSTS7000112": Code(
        "the application is disabled", "enable it under Enterprise applications in the tenant"
    ),
    "AADSTS90002": Code(
        "the tenant does not exist",
        "correct AZURE_TENANT_ID, and check that AZURE_AUTHORITY_HOST is the right cloud",
    ),
    "AADSTS900382": Code(
        "the identity belongs to another cloud than the authority",
        "correct AZURE_AUTHORITY_HOST, such as https://login.microsoftonline.us for US government",
    ),
    "AADSTS700024": Code(
        "the workload's federated token is not valid now: it has expired, or a clock is wrong",
        "check the clock; kubectl delete pod POD creates a pod with a new token",
    ),
    "AADSTS700027": Code(
        "the signature of the client's certificate was rejected: the certificate is unknown or "
        "has expired",
        _RECONNECT,
    ),
    "AADSTS7000222": Code("the client's secret or certificate has expired", _RECONNECT),
    "AADSTS70021": Code("no federated identity credential matches this workload", _FEDERATED),
    "AADSTS70023": Code("no federated identity credential matches this workload", _FEDERATED),
    "AADSTS700216": Code("no federated identity credential matches this workload", _FEDERATED),
    "AADSTS700211": Code("no federated identity credential matches the token's issuer", _FEDERATED),
    "AADSTS700212": Code(
        "no federated identity credential matches the token's audience", _FEDERATED
    ),
    "AADSTS700213": Code(
        "no federated identity credential matches the token's subject", _FEDERATED
    ),
    "AADSTS53003": Code(
        "Conditional Access blocks the token request, mostly because of its IP address",
        "check the sign-in logs of the managed identity in Microsoft Entra ID",
    ),
    "AKV10000": Code(
        "the request to Key Vault has no token, or one that Key Vault cannot read",
        "request a token for https://vault.azure.net and send it as Authorization: Bearer TOKEN",
    ),
    "AKV10022": Code(
        "the token's audience is not Key Vault",
        "request a token for https://vault.azure.net, without a slash at the end",
    ),
    "AKV10032": Code(
        "the token's tenant is not the vault's tenant",
        "use an identity of the vault's tenant, or move the vault: az keyvault update",
    ),
    "AKV10046": Code(
        "Key Vault cannot fetch the key that signed the token, or does not trust it",
        "request the token from the cloud that the vault is in",
    ),
}
