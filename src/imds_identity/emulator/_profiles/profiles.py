"""The endpoints and the environment variables of each kind of host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._services.app_service import PATH as APP_SERVICE_PATH
from .._services.app_service import AppServiceTokenEndpoint
from .._services.arc import ArcTokenEndpoint
from .._services.attested import INTERMEDIATE_PATH, ROOT_PATH
from .._services.attested import PATH as ATTESTED_PATH
from .._services.instance import PATH as INSTANCE_PATH
from .._services.instance import (
    VERSIONS_PATH,
    InstanceEndpoint,
    VersionsEndpoint,
    arc_view,
    stack_hub_view,
    vm_view,
)
from .._services.load_balancer import PATH as BALANCER_PATH
from .._services.load_balancer import LoadBalancerEndpoint
from .._services.scheduled_events import PATH as EVENTS_PATH
from .._services.scheduled_events import EventsEndpoint
from .._services.token import (
    FORM_TOKEN_PATH,
    INFO_PATH,
    TOKEN_PATH,
    FormTokenEndpoint,
    InfoEndpoint,
    TokenEndpoint,
)
from .request_handler import Routes

if TYPE_CHECKING:
    from .._services.attested import AttestedEndpoint
    from .._services.instance import DocumentView
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
TOKEN_PATHS = (TOKEN_PATH, FORM_TOKEN_PATH, APP_SERVICE_PATH)


def app_service_routes(state: EmulatorState) -> Routes:
    """Return the endpoints of App Service."""
    routes = Routes()
    routes.add(APP_SERVICE_PATH, "identity", AppServiceTokenEndpoint(state))
    return routes


def arc_routes(state: EmulatorState, keys: KeyFiles, *, ignores_selector: bool) -> Routes:
    """Return the endpoints of Azure Arc's agent, in an older version with ``ignores_selector``."""
    routes = _instance_routes(state, arc_view)
    endpoint = ArcTokenEndpoint(state, keys, ignores_selector=ignores_selector)
    routes.add(TOKEN_PATH, "identity", endpoint)
    return routes


def stack_hub_routes(state: EmulatorState) -> Routes:
    """Return the endpoints of a VM on Azure Stack Hub, which has no managed identities."""
    return _instance_routes(state, stack_hub_view)


def vm_routes(state: EmulatorState, attested: AttestedEndpoint) -> Routes:
    """Return the endpoints of an Azure VM."""
    routes = _instance_routes(state, vm_view)
    routes.add(TOKEN_PATH, "identity", TokenEndpoint(state))
    routes.add(FORM_TOKEN_PATH, "identity", FormTokenEndpoint(state))
    routes.add(INFO_PATH, "identity", InfoEndpoint(state))
    routes.add(ATTESTED_PATH, "attested", attested)
    # Microsoft's Python sample sends a line feed at the end of the path.
    for path in (INTERMEDIATE_PATH, INTERMEDIATE_PATH + "\n"):
        routes.add(path, "certificates", attested.serve_intermediate)
    routes.add(ROOT_PATH, "certificates", attested.serve_root)
    routes.add(BALANCER_PATH, "loadbalancer", LoadBalancerEndpoint(state))
    routes.add(EVENTS_PATH, "scheduledevents", EventsEndpoint(state))
    return routes


def _instance_routes(state: EmulatorState, view: DocumentView) -> Routes:
    routes = Routes()
    routes.add(INSTANCE_PATH, "instance", InstanceEndpoint(state, view), prefix=True)
    routes.add(VERSIONS_PATH, "versions", VersionsEndpoint(state))
    return routes


def server_header(profile: Profile) -> str:
    """Return the Server header of a host."""
    return "himds" if profile == "arc" else f"IMDS/0 ({SERVER_NAME})"


def environment(profile: Profile, endpoint: str, identity_header: str) -> dict[str, str]:
    """Return the variables that direct a client to a host and turn off the shared cache."""
    if profile == "arc":
        return {"IDENTITY_ENDPOINT": endpoint + TOKEN_PATH, "IMDS_ENDPOINT": endpoint, **_CACHE_OFF}
    if profile == "app-service":
        return {
            "IDENTITY_ENDPOINT": endpoint + APP_SERVICE_PATH,
            "IDENTITY_HEADER": identity_header,
            **_CACHE_OFF,
        }
    if profile == "stack-hub":
        return dict(_CACHE_OFF)
    return {"AZURE_POD_IDENTITY_AUTHORITY_HOST": endpoint, **_CACHE_OFF}
