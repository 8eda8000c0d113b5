"""Service Fabric, whose certificate a client must check by its thumbprint."""

from __future__ import annotations

from .source import build
from .spec import AppHostSpec

SERVICE_FABRIC = AppHostSpec(
    "service-fabric",
    "Service Fabric",
    build,
    "IDENTITY_ENDPOINT",
    "IDENTITY_HEADER",
    "IDENTITY_SERVER_THUMBPRINT",
    secret_header="Secret",  # noqa: S106 - a name
    api_version="2020-05-01",
    also_sets=("MSI_ENDPOINT", "MSI_SECRET"),
    selectors={"object_id": "principalId"},
    checks_selector_early=False,  # as in azure-identity, where only requests fail
    knows_cae=True,
)
