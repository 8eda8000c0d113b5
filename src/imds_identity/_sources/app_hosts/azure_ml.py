"""Azure Machine Learning.

Without ``clientid`` it may return a token of the user who is signed in, not of the managed
identity. It ignores other selectors.
https://learn.microsoft.com/azure/machine-learning/how-to-identity-based-service-authentication
https://github.com/Azure/azure-sdk-for-python/issues/31032
"""

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
    client_id_variable="DEFAULT_IDENTITY_CLIENT_ID",
    selectors={"client_id": "clientid"},
    final_error="SSO failure",  # the user is signed out, and there is no managed identity
)
