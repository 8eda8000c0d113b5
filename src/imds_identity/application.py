"""`FederatedApplicationCredential`, an azure-core credential."""

from __future__ import annotations

from ._azure_core.application import BaseFederatedApplicationCredential
from .credential import ManagedIdentityCredential

__all__ = ["FederatedApplicationCredential"]


class FederatedApplicationCredential(BaseFederatedApplicationCredential, ManagedIdentityCredential):
    """Tokens of an application that trusts a managed identity, also in another tenant.

    The application has a federated credential with the identity as subject, and needs no secret: a
    token of the managed identity is the assertion of a client-credentials request to Microsoft
    Entra ID. Both tokens are cached, refreshed and shared like those of
    `ManagedIdentityCredential`, and the methods are the same.
    https://learn.microsoft.com/entra/workload-id/workload-identity-federation-config-app-trust-managed-identity

    Args:
        tenant_id: the ID, or a domain, of the tenant in which the application gets tokens.
        client_id: the client ID of the application, not of the identity.
        identity: the client ID of a user-assigned identity, or a mapping such as
            ``{"object_id": …}``; omit it for the system-assigned identity.
        authority: the URL of Microsoft Entra ID (default: AZURE_AUTHORITY_HOST, or else
            ``https://login.microsoftonline.com``).
        identity_options: the other keywords of `ManagedIdentityCredential`. They apply to the
            requests for both tokens.

    Raises:
        ValueError: for an invalid tenant, client ID, identity, or authority.
        TypeError: for an unknown keyword.
    """
