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
    api_version="2019-07-01-preview",
    also_sets=("MSI_ENDPOINT", "MSI_SECRET"),
)
