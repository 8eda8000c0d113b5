"""The endpoints and the environment variables of each kind of host."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from .._services import app_service, arc, attested, instance, load_balancer, scheduled_events, token
from .request_handler import Routes

if TYPE_CHECKING:
    from .._settings import Profile
    from .._state.key_files import KeyFiles
    from .._state.state import EmulatorState

SERVER_NAME = "imds-identity emulator"
# Variables that would direct a client to another endpoint.
MISLEADING_VARIABLES = (
    "AZURE_FEDERATED_TOKEN_FILE", "AZURE_POD_IDENTITY_AUTHORITY_HOST", "IDENTITY_ENDPOINT",
    "IDENTITY_HEADER", "IDENTITY_SERVER_THUMBPRINT", "IMDS_ENDPOINT", "MSI_ENDPOINT", "MSI_SECRET",
)  # fmt: skip
# A later emulator may use the same port, so tokens must not get into the shared cache.
_CACHE_OFF = {"IMDS_IDENTITY_CACHE": "off"}
TOKEN_PATHS = (token.TOKEN_PATH, token.FORM_TOKEN_PATH, app_service.PATH)


def app_service_routes(state: EmulatorState) -> Routes:
    """Return the endpoints of App Service."""
    routes = Routes()
    routes.add(app_service.PATH, "identity", app_service.AppServiceTokenEndpoint(state))
    return routes


def arc_routes(state: EmulatorState, keys: KeyFiles, *, ignores_selector: bool) -> Routes:
    """Return the endpoints of Azure Arc's agent, in an older version with ``ignores_selector``."""
    routes = _instance_routes(state, instance.arc_view)
    endpoint = arc.ArcTokenEndpoint(state, keys, ignores_selector=ignores_selector)
    routes.add(token.TOKEN_PATH, "identity", endpoint)
    return routes


def stack_hub_routes(state: EmulatorState) -> Routes:
    """Return the endpoints of a VM on Azure Stack Hub, which has no managed identities."""
    return _instance_routes(state, instance.stack_hub_view)


def vm_routes(state: EmulatorState, documents: attested.AttestedEndpoint) -> Routes:
    """Return the endpoints of an Azure VM."""
    routes = _instance_routes(state, instance.vm_view)
    routes.add(token.TOKEN_PATH, "identity", token.TokenEndpoint(state))
    routes.add(token.FORM_TOKEN_PATH, "identity", token.FormTokenEndpoint(state))
    routes.add(token.INFO_PATH, "identity", token.InfoEndpoint(state))
    routes.add(attested.PATH, "attested", documents)
    # Microsoft's Python sample sends a line feed at the end of the path.
    for path in (attested.INTERMEDIATE_PATH, attested.INTERMEDIATE_PATH + "\n"):
        routes.add(path, "certificates", documents.serve_intermediate)
    routes.add(attested.ROOT_PATH, "certificates", documents.serve_root)
    routes.add(load_balancer.PATH, "loadbalancer", load_balancer.LoadBalancerEndpoint(state))
    routes.add(scheduled_events.PATH, "scheduledevents", scheduled_events.EventsEndpoint(state))
    return routes


def _instance_routes(state: EmulatorState, view: instance.DocumentView) -> Routes:
    routes = Routes()
    routes.add(instance.PATH, "instance", instance.InstanceEndpoint(state, view), prefix=True)
    routes.add(instance.VERSIONS_PATH, "versions", instance.VersionsEndpoint(state))
    return routes


def server_header(profile: Profile) -> str:
    """Return the Server header of a host."""
    return {"arc": "himds", "app-service": "Kestrel"}.get(profile, "IMDS/150.870.65.1125")


def environment(profile: Profile, endpoint: str, identity_header: str) -> dict[str, str]:
    """Return the variables that direct a client to a host and turn off the shared cache."""
    if profile == "arc":
        return {
            "IDENTITY_ENDPOINT": endpoint + token.TOKEN_PATH,
            "IMDS_ENDPOINT": endpoint,
            **_CACHE_OFF,
        }
    if profile == "app-service":
        return {
            "IDENTITY_ENDPOINT": endpoint + app_service.PATH,
            "IDENTITY_HEADER": identity_header,
            # The names of these two for clients of the api-version 2017-09-01.
            "MSI_ENDPOINT": endpoint + app_service.PATH,
            "MSI_SECRET": identity_header,
            # On Windows, the other two alone mean Container Instances.
            **({"IMDS_IDENTITY_ENDPOINT": "app-service"} if sys.platform == "win32" else {}),
            **_CACHE_OFF,
        }
    if profile == "stack-hub":
        return dict(_CACHE_OFF)
    return {"AZURE_POD_IDENTITY_AUTHORITY_HOST": endpoint, **_CACHE_OFF}
