"""Azure Container Instances on Windows. Linux containers there use IMDS.

Its variables are those of App Service, but its protocol differs.
https://learn.microsoft.com/azure/container-instances/container-instances-managed-identity
"""

from __future__ import annotations

import sys

from ..._platform.environment import add_variables
from ..host import Condition
from .source import build
from .spec import AppHostSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..._platform.environment import Environment

OTHER_HOSTS = (
    *("WEBSITE_SITE_NAME", "WEBSITE_INSTANCE_ID", "WEBSITE_HOSTNAME", "FUNCTIONS_WORKER_RUNTIME"),
    *("CONTAINER_APP_NAME", "CONTAINER_APP_JOB_NAME", "CONTAINER_APP_REVISION"),
    "AUTOMATION_ASSET_ACCOUNTID",
    "IMDS_IDENTITY_ENDPOINT",  # set by `exec`, `serve` and the emulator
)
"""Variables of hosts with App Service's protocol."""
add_variables(*OTHER_HOSTS)


def _is_no_other_host(environment: Environment) -> bool:
    return not any(environment[name] for name in OTHER_HOSTS)


CONTAINER_INSTANCES = AppHostSpec(
    "container-instances",
    "Container Instances on Windows",
    build,
    "IDENTITY_ENDPOINT",
    "IDENTITY_HEADER",
    secret_header="secret",  # noqa: S106 - a name
    more_conditions=(
        Condition("Windows", lambda _: sys.platform == "win32"),
        Condition(
            "none of the variables of App Service, Container Apps and Automation", _is_no_other_host
        ),
    ),
    selectors={"object_id": "principalId"},
)
