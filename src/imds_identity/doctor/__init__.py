"""Diagnose why a process cannot acquire a managed identity token, without changing anything.

from imds_identity.doctor import diagnose

diagnosis = diagnose("https://vault.azure.net")
print(diagnosis.headline)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._facts.facts import DiagnosisOptions
from .diagnosis import SCHEMA, Diagnosis
from .finding import Finding, Status

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["SCHEMA", "Diagnosis", "DiagnosisOptions", "Finding", "Status", "diagnose"]


def diagnose(resource: str | None = None, **options: Unpack[DiagnosisOptions]) -> Diagnosis:
    """Diagnose why this process cannot acquire a token. It takes less than five seconds.

    The function reads local settings, opens one connection and sends at most eight requests. It
    requests tokens, but does not keep them. No finding contains a secret.

    Args:
        resource: The resource to request a token for; Azure Resource Manager by default.
        options: See `DiagnosisOptions`.

    Returns:
        The findings. If some of them are failures, the first failure is the most likely cause.

    Raises:
        ValueError: If an argument is not valid.

    https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service
    """
    from ._facts.gather import collect_facts
    from .diagnosis import run_checks

    return run_checks(collect_facts(resource, **options))
