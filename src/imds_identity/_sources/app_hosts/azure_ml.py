"""Azure Machine Learning."""

from __future__ import annotations

from .source import build
from .spec import AppHostSpec

AZURE_ML = AppHostSpec(
    "azure-ml",
    "Azure Machine Learning",
    build,
    "MSI_ENDPOINT",
    "MSI_SECRET",
    secret_header="secret",  # noqa: S106 - a name
    api_version="2017-09-01",
    selectors={"client_id": "clientid", "object_id": "object_id", "resource_id": "msi_res_id"},
)
