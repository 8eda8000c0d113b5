"""Finds out why a process gets no token, without changing anything.

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
) -> Diagnosis:
    """Look for what keeps this process from its token. It takes less than five seconds.

    It reads, connects once and sends at most eight requests, one of them for a token that it does
    not keep. No finding holds a secret.

    Args:
        resource: what the token is for; Azure Resource Manager by default.
        scope: the same, as a scope such as ``https://vault.azure.net/.default``.
        client_id: selects a user-assigned identity, like the next two.
        object_id: likewise.
        resource_id: likewise.
        source: ``imds`` or ``arc``, in place of what is detected.
        arc_tokens_directory: where an Arc agent keeps its key files, if elsewhere.
        cache: the directory that processes share; ``off`` or False for none.

    Returns:
        The findings, the most likely cause first among those that failed.

    Raises:
        ValueError: for a setting that is not understood.

    https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service
    """
    from ._facts.gather import gathered
    from .diagnosis import diagnosed

    if resource is not None and scope is not None:
        raise ValueError("give a resource or a scope, not both")
    facts = gathered(
        resource or scope,
        is_scope=scope is not None,
        client_id=client_id,
        object_id=object_id,
        resource_id=resource_id,
        source=source,
        arc_tokens_directory=arc_tokens_directory,
        cache=cache,
    )
    return diagnosed(facts)
