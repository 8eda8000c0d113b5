"""What each kind of host serves, and the variables that lead a client to it."""

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
    as_on_a_vm,
    as_on_arc,
    as_on_stack_hub,
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
from .service import Routes

if TYPE_CHECKING:
    from .._services.attested import AttestedEndpoint
    from .._services.instance import Adapt
    from .._settings import Profile
    from .._state.key_files import KeyFiles
    from .._state.state import World

NAME = "imds-identity emulator"
# Any of these, left over in an environment, would lead a client somewhere else.
MISLEADING = (
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_POD_IDENTITY_AUTHORITY_HOST",
    "IDENTITY_ENDPOINT",
    "IDENTITY_HEADER",
    "IDENTITY_SERVER_THUMBPRINT",
    "IMDS_ENDPOINT",
    "MSI_ENDPOINT",
    "MSI_SECRET",
)
# A token of an emulator must not be served to clients of the next one at the same port.
_UNSHARED = {"IMDS_IDENTITY_CACHE": "off"}
TOKEN_PATHS = (TOKEN_PATH, FORM_TOKEN_PATH, APP_SERVICE_PATH)


def app_service_routes(world: World) -> Routes:
    """The endpoints of App Service."""
    routes = Routes()
    routes.add(APP_SERVICE_PATH, "identity", AppServiceTokenEndpoint(world))
    return routes


def arc_routes(world: World, keys: KeyFiles, *, ignores_selector: bool) -> Routes:
    """The endpoints of Azure Arc's agent.

    Args:
        world: the shared state.
        keys: the files of its challenge.
        ignores_selector: whether it is an older agent.
    """
    routes = _instance_routes(world, as_on_arc)
    endpoint = ArcTokenEndpoint(world, keys, ignores_selector=ignores_selector)
    routes.add(TOKEN_PATH, "identity", endpoint)
    return routes


def stack_hub_routes(world: World) -> Routes:
    """The endpoints of a VM on Azure Stack Hub, which has no managed identities."""
    return _instance_routes(world, as_on_stack_hub)


def vm_routes(world: World, attested: AttestedEndpoint) -> Routes:
    """The endpoints of an Azure VM."""
    routes = _instance_routes(world, as_on_a_vm)
    routes.add(TOKEN_PATH, "identity", TokenEndpoint(world))
    routes.add(FORM_TOKEN_PATH, "identity", FormTokenEndpoint(world))
    routes.add(INFO_PATH, "identity", InfoEndpoint(world))
    routes.add(ATTESTED_PATH, "attested", attested)
    # Microsoft's Python sample leaves a line feed at the end of the address that it asks.
    for path in (INTERMEDIATE_PATH, INTERMEDIATE_PATH + "\n"):
        routes.add(path, "certificates", attested.serve_intermediate)
    routes.add(ROOT_PATH, "certificates", attested.serve_root)
    routes.add(BALANCER_PATH, "loadbalancer", LoadBalancerEndpoint(world))
    routes.add(EVENTS_PATH, "scheduledevents", EventsEndpoint(world))
    return routes


def _instance_routes(world: World, adapt: Adapt) -> Routes:
    routes = Routes()
    routes.add(INSTANCE_PATH, "instance", InstanceEndpoint(world, adapt), below=True)
    routes.add(VERSIONS_PATH, "versions", VersionsEndpoint(world))
    return routes


def server_name(profile: Profile) -> str:
    """The Server header of a host."""
    return "himds" if profile == "arc" else f"IMDS/0 ({NAME})"


def environment(profile: Profile, endpoint: str, identity_header: str) -> dict[str, str]:
    """The variables that lead a client to a host, and keep its tokens out of the shared cache.

    Args:
        profile: the kind of host.
        endpoint: its URL, without a path.
        identity_header: App Service's ``IDENTITY_HEADER``.
    """
    if profile == "arc":
        found = {"IDENTITY_ENDPOINT": endpoint + TOKEN_PATH, "IMDS_ENDPOINT": endpoint}
        return {**found, **_UNSHARED}
    if profile == "app-service":
        return {
            "IDENTITY_ENDPOINT": endpoint + APP_SERVICE_PATH,
            "IDENTITY_HEADER": identity_header,
            **_UNSHARED,
        }
    if profile == "stack-hub":
        return dict(_UNSHARED)
    return {"AZURE_POD_IDENTITY_AUTHORITY_HOST": endpoint, **_UNSHARED}
