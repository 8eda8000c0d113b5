"""Gather the facts that the checks read, without changing anything on the machine."""

from __future__ import annotations

from ..._platform.environment import add_variables

add_variables(  # that only the doctor reads
    *("AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_CLIENT_SECRET"),  # only whether they are set
    *("AGENT_ISSELFHOSTED", "AGENT_NAME", "CODESPACES", "CONTAINER_APP_NAME", "FLY_APP_NAME"),
    *("FUNCTIONS_WORKER_RUNTIME", "GITHUB_ACTIONS", "RUNNER_ENVIRONMENT", "TF_BUILD"),
    *("WEBSITE_RESOURCE_GROUP", "WEBSITE_SITE_NAME", "WSL_DISTRO_NAME"),
    *("AWS_LAMBDA_FUNCTION_NAME", "DATABRICKS_RUNTIME_VERSION", "ECS_CONTAINER_METADATA_URI_V4"),
    *("AZUREML_ARM_RESOURCEGROUP", "AZUREML_ARM_WORKSPACE_NAME", "AZURE_SERVICE"),
    "AZ_BATCH_POOL_ID",
    *("CI_RUNNER_DESCRIPTION", "CI_RUNNER_TAGS", "GITLAB_CI", "K_SERVICE"),
)
