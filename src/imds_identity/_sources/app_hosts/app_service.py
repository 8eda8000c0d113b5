"""App Service, Azure Functions, and Container Apps."""

from __future__ import annotations

from .source import build
from .spec import AppHostSpec

APP_SERVICE = AppHostSpec(
    "app-service",
    "App Service",
    build,
    "IDENTITY_ENDPOINT",
    "IDENTITY_HEADER",
    secret_header="X-IDENTITY-HEADER",  # noqa: S106 - a name
    api_version="2019-08-01",
    also_sets=("MSI_ENDPOINT", "MSI_SECRET"),  # names of an earlier protocol version
    selectors={"client_id": "client_id", "object_id": "object_id", "resource_id": "mi_res_id"},
)
