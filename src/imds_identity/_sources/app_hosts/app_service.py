"""App Service, Azure Functions, Container Apps, and Azure Automation."""

from __future__ import annotations

from ..._platform.environment import add_variables
from .source import build
from .spec import AppHostSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..._platform.environment import Environment
    from .source import AppHostSource

_LABELS = {
    "CONTAINER_APP_NAME": "Container Apps",
    "CONTAINER_APP_JOB_NAME": "Container Apps",
    "AUTOMATION_ASSET_ACCOUNTID": "Azure Automation",
    "FUNCTIONS_WORKER_RUNTIME": "Azure Functions",
}
"""Hosts with the same protocol, by a variable that only they set: messages name them."""
add_variables(*_LABELS)


def _build(spec: AppHostSpec, environment: Environment) -> AppHostSource:
    source = build(spec, environment)
    labels = [label for name, label in _LABELS.items() if environment[name]]
    source.label = labels[0] if labels else spec.label
    return source


APP_SERVICE = AppHostSpec(
    "app-service",
    "App Service",
    _build,
    "IDENTITY_ENDPOINT",
    "IDENTITY_HEADER",
    secret_header="X-IDENTITY-HEADER",  # noqa: S106 - a name
    api_version="2019-08-01",
    also_sets=("MSI_ENDPOINT", "MSI_SECRET"),  # names of an earlier protocol version
    selectors={"client_id": "client_id", "object_id": "object_id", "resource_id": "mi_res_id"},
)
