"""Codes that people search for: Microsoft Entra ID's and Key Vault's, as far as they concern this.

https://learn.microsoft.com/entra/identity-platform/reference-error-codes
https://learn.microsoft.com/azure/key-vault/general/common-error-codes
"""

from __future__ import annotations

import re
from typing import NamedTuple

_CODE = re.compile(r"\b(?:AADSTS|AKV)[0-9]{4,7}\b")


class Code(NamedTuple):
    """What a code means, and what mends it."""

    meaning: str
    remedy: str


_FEDERATED = (
    "az identity federated-credential list --identity-name NAME --resource-group GROUP; compare "
    "issuer, subject and audience with the workload's own token"
)
CODES = {
    "AADSTS500011": Code(
        "the tenant knows no such resource: it is misspelled, is a scope, or belongs to another "
        "tenant or cloud",
        "name the resource as its documentation has it, such as https://vault.azure.net",
    ),
    "AADSTS500014": Code(
        "the resource's service principal is disabled in this tenant",
        "enable it under Enterprise applications, or have its owner renew the subscription",
    ),
    "AADSTS700016": Code(
        "the tenant knows no such client: it was deleted, or another tenant was named",
        "correct AZURE_CLIENT_ID and AZURE_TENANT_ID, or assign the identity again",
    ),
    "AADSTS7000112": Code(
        "the application is disabled", "enable it under Enterprise applications in the tenant"
    ),
    "AADSTS90002": Code(
        "there is no such tenant", "correct AZURE_TENANT_ID; AZURE_AUTHORITY_HOST names the cloud"
    ),
    "AADSTS700024": Code(
        "the workload's own token is not good at this time: it has expired, or a clock is wrong",
        "look at the clock; kubectl delete pod THIS_POD gives it a new token",
    ),
    "AADSTS700027": Code(
        "the signature of the client's certificate was not accepted: it is unknown or has expired",
        "on Azure Arc: azcmagent disconnect --force-local-only, then azcmagent connect",
    ),
    "AADSTS7000222": Code(
        "the client's secret or certificate has expired",
        "on Azure Arc: azcmagent disconnect --force-local-only, then azcmagent connect",
    ),
    "AADSTS70021": Code("no federated identity credential fits this workload", _FEDERATED),
    "AADSTS700211": Code("no federated identity credential has the token's issuer", _FEDERATED),
    "AADSTS700212": Code("no federated identity credential has the token's audience", _FEDERATED),
    "AADSTS700213": Code("no federated identity credential has the token's subject", _FEDERATED),
    "AADSTS53003": Code(
        "Conditional Access refuses the token, mostly for the address that was asked from",
        "look into the sign-in logs of the managed identity in Microsoft Entra ID",
    ),
    "AKV10000": Code(
        "Key Vault got no token, or one that it cannot read",
        "ask for the resource https://vault.azure.net and send Authorization: Bearer TOKEN",
    ),
    "AKV10022": Code(
        "the token is for another resource than Key Vault",
        "ask for the resource https://vault.azure.net, without a slash at the end",
    ),
    "AKV10032": Code(
        "the token is of another tenant than the vault's",
        "use an identity of the vault's tenant, or move the vault: az keyvault update",
    ),
    "AKV10046": Code(
        "Key Vault cannot reach the key that signed the token, or does not trust it",
        "make sure that the token is of the cloud that the vault is in",
    ),
}


def code_in(text: str) -> str:
    """The first code in ``text``, empty if there is none."""
    found = _CODE.search(text)
    return found[0] if found else ""
