"""Diagnose why a process cannot acquire a managed identity token, without changing anything.

from imds_identity.doctor import diagnose

diagnosis = diagnose("https://vault.azure.net")
print(diagnosis.headline)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .diagnosis import SCHEMA, Diagnosis
from .finding import Finding, Status

if TYPE_CHECKING:
    import os

__all__ = ["SCHEMA", "Diagnosis", "Finding", "Status", "diagnose"]


def diagnose(
    resource: str | None = None,
    *,
    scope: str | None = None,
    client_id: str | None = None,
    object_id: str | None = None,
    resource_id: str | None = None,
    source: str | None = None,
    arc_tokens_directory: str | os.PathLike[str] | None = None,
    cache: bool | str | os.PathLike[str] | None = None,
    network: bool = False,
) -> Diagnosis:
    """Diagnose why this process cannot acquire a token. It takes less than five seconds.

    The function reads local settings, opens one connection and sends at most eight requests. It
    requests tokens, but does not keep them. No finding contains a secret.

    Args:
        resource: The resource to request a token for; Azure Resource Manager by default.
        scope: The same as a scope, such as ``https://vault.azure.net/.default``.
        client_id: The client ID of a user-assigned identity.
        object_id: The object ID of a user-assigned identity.
        resource_id: The resource ID of a user-assigned identity.
        source: ``imds`` or ``arc``, to skip the detection of the token source.
        arc_tokens_directory: The directory of the Azure Arc agent's key files, if not the default.
        cache: The directory of the shared token cache; ``off`` or False for none.
        network: Also connect to Microsoft Entra ID, Azure Resource Manager and the services of the
            Azure Arc agent, through the proxy if there is one. No request is sent there.

    Returns:
        The findings. If some of them are failures, the first failure is the most likely cause.

    Raises:
        ValueError: If an argument is not valid.

    https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service
    """
    from ._facts.gather import collect_facts
    from .diagnosis import run_checks

    facts = collect_facts(
        resource,
        scope=scope,
        client_id=client_id,
        object_id=object_id,
        resource_id=resource_id,
        source=source,
        arc_tokens_directory=arc_tokens_directory,
        cache=cache,
        network=network,
    )
    return run_checks(facts)
