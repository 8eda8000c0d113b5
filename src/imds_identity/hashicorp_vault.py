"""Sign in to HashiCorp Vault with its azure method.

https://developer.hashicorp.com/vault/api-docs/auth/azure#login
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._core.source import ARC
from ._platform.log import log_in_thread
from ._sources.registry import detect

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

    from .metadata import Compute

__all__ = ["RESOURCE", "azure_login", "machine_parameters"]

RESOURCE = "https://management.azure.com/"
"""The resource that Vault's documentation configures for the method."""


def azure_login(
    role: str,
    *,
    resource: str = RESOURCE,
    credential: TokenCredential | None = None,
    **settings: Any,
) -> dict[str, str]:
    """Return the parameters of a login: ``client.auth.azure.login(**azure_login("my-role"))``.

    On an Azure Arc server they include ``resource_id``, which hvac 2.4 does not have as a keyword:
    ``client.login("/v1/auth/azure/login", json=azure_login("my-role"))`` works on every host.

    Args:
        role: the name of the role in Vault.
        resource: the resource in the configuration of the method, with the same trailing slash.
        credential: any azure-core credential, instead of a new `ManagedIdentityCredential`.
        settings: as `ManagedIdentityCredential` takes them, such as ``client_id``.

    Returns:
        The role, a token as ``jwt``, and the names of this machine, unless there is no metadata
        service. Without them, Vault knows the identity and its groups only. Do not log this.

    Raises:
        CredentialUnavailableError: if there is no managed identity.
        azure.core.exceptions.ClientAuthenticationError: if the token is refused.
        TypeError: for both ``credential`` and ``settings``.
    """
    if credential is not None and settings:
        raise TypeError(f"pass a credential or {', '.join(settings)}, not both")
    if credential is None:
        from .credential import ManagedIdentityCredential

        credential = ManagedIdentityCredential(**settings)
    token = credential.get_token(f"{resource}/.default")
    return {"role": role, "jwt": token.token, **machine_parameters(settings.get("source"))}


def machine_parameters(source: str | None = None) -> dict[str, str]:
    """Return the parameters that name this machine; none if there is no metadata service.

    Args:
        source: ``imds`` or ``arc``, instead of detection.
    """
    from .metadata import MetadataClient, MetadataError

    found = detect(source)
    client = MetadataClient()
    try:
        if not found.is_per_machine or not (found.name == ARC or client.detect()):
            return {}
        compute = client.compute()
    except MetadataError as error:
        log_in_thread("WARNING", "the login to Vault does not name this machine: %s", error)
        return {}
    return {name: value for name, value in _fields(compute).items() if value}


def _fields(compute: Compute) -> dict[str, str | None]:
    if "/microsoft.hybridcompute/" in (compute.resource_id or "").lower():
        machine = {"resource_id": compute.resource_id}
    else:  # both names, as the Vault agent sends them
        scale_set = compute.scale_set and compute.scale_set.name
        machine = {"vm_name": compute.name, "vmss_name": scale_set}
    return {
        "subscription_id": compute.subscription_id,
        "resource_group_name": compute.resource_group_name,
        **machine,
    }
