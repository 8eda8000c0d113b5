"""The endpoints and the environment variables of each kind of host."""

from __future__ import annotations

import sys
import uuid
from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509

from .._machine.identities import SystemAssigned, UserAssigned
from .._machine.machine import Machine
from .._pki.certificates import load_or_create_authority, load_or_create_server, server_names
from .._pki.key_store import VAULT_CA, KeyStore
from .._services import (
    app_hosts,
    arc,
    attested,
    entra,
    instance,
    scheduled_events,
    token,
)
from .._settings import WORKLOADS
from .request_handler import Routes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from .._pki.certificates import Authority
    from .._pki.key_store import PrivateKey
    from .._settings import Profile, Settings
    from .._state.key_files import KeyFiles
    from .._state.state import EmulatorState

SERVER_NAME = "imds-identity emulator"
# Variables that would direct a client to another endpoint.
MISLEADING_VARIABLES = (
    "AZURE_FEDERATED_TOKEN_FILE", "AZURE_KUBERNETES_CA_DATA", "AZURE_KUBERNETES_CA_FILE",
    "AZURE_KUBERNETES_SNI_NAME", "AZURE_KUBERNETES_TOKEN_PROXY",
    "AZURE_POD_IDENTITY_AUTHORITY_HOST", "IDENTITY_ENDPOINT", "IDENTITY_HEADER",
    "IDENTITY_SERVER_THUMBPRINT", "IMDS_ENDPOINT", "MSI_ENDPOINT", "MSI_SECRET",
)  # fmt: skip
# A later emulator may use the same port, so tokens must not get into the shared cache.
_CACHE_OFF = {"IMDS_IDENTITY_CACHE": "off"}
_TOKEN_PATHS = (token.TOKEN_PATH, token.FORM_TOKEN_PATH, app_hosts.PATH)
# Hosts whose token endpoint uses https.
WITH_TLS = ("service-fabric", *WORKLOADS)
WORKLOAD_TOKEN_FILE = "azure-identity-token"  # noqa: S105 - a name
BINDING_NAME = "emulated.ests.aks"
_CONTAINER_PATH = token.TOKEN_PATH + "?api-version=1.0"
# Hosts with App Service's protocol, and a variable that distinguishes them.
_LIKE_APP_SERVICE: Mapping[str, Mapping[str, str]] = {
    "app-service": {},
    "functions": {"FUNCTIONS_WORKER_RUNTIME": "python"},
    "container-apps": {"CONTAINER_APP_NAME": "emulated-app"},
}
_APP_ENDPOINTS: Mapping[str, tuple[str, type[app_hosts.AppTokenEndpoint]]] = {
    **dict.fromkeys(_LIKE_APP_SERVICE, (app_hosts.PATH, app_hosts.AppServiceTokenEndpoint)),
    "azure-ml": (app_hosts.PATH, app_hosts.MachineLearningTokenEndpoint),
    "service-fabric": (token.TOKEN_PATH, app_hosts.ServiceFabricTokenEndpoint),
    "aci": (token.TOKEN_PATH, app_hosts.ContainerInstancesTokenEndpoint),
}


def is_token_path(path: str) -> bool:
    """Return whether token requests have this path."""
    return path in _TOKEN_PATHS or path.endswith(entra.V2_TOKEN_PATH)


class Address(NamedTuple):
    """What clients of a host must know; ``client_id`` is the system-assigned identity's."""

    profile: Profile
    endpoint: str
    secret: str
    client_id: str = ""
    thumbprint: str = ""
    is_windows: bool = False


def address(settings: Settings, secret: str, endpoint: str) -> Address:
    """Return the address of an emulator; the thumbprint is still empty."""
    own = [each for each in settings.identities if isinstance(each, SystemAssigned)]
    client_id = own[0].client_id if own else ""
    is_windows = _os_type(settings) == "Windows"
    return Address(settings.profile, endpoint, secret, client_id, is_windows=is_windows)


def _os_type(settings: Settings) -> str:
    return (settings.machine or Machine()).os_type


def identity_header(settings: Settings, keys: KeyStore) -> str:
    """Return the secret of an app's environment; by default a random one, which a store keeps."""
    if settings.identity_header is not None or not has_secret(settings.profile, _os_type(settings)):
        return settings.identity_header or ""
    stored = keys.load_or_create("identity-header", uuid.uuid4().hex.encode, 0o600)
    return stored.decode("ascii", "replace").strip()


def authority(keys: KeyStore) -> Authority:
    """Return the certificate authority of all https endpoints."""
    return load_or_create_authority(keys, VAULT_CA, "imds-identity emulator root")


def certificate(
    settings: Settings, keys: KeyStore, root: Authority
) -> tuple[PrivateKey, x509.Certificate]:
    """Return the key and certificate of a token endpoint with https."""
    if settings.profile == "identity-binding":
        return load_or_create_server(KeyStore(), root, [x509.DNSName(BINDING_NAME)])
    return load_or_create_server(keys, root, server_names(settings.host, settings.allowed_hosts))


def has_secret(profile: str, os_type: str) -> bool:
    """Return whether an app sends the secret of its environment; on Linux, ACI has none."""
    return profile in _APP_ENDPOINTS and (profile != "aci" or os_type == "Windows")


def workload_routes(state: EmulatorState, issuer: str) -> Routes:
    """Return Entra's token endpoint, for a workload of the cluster with this issuer."""
    routes = Routes()
    endpoint = entra.TokenExchangeEndpoint(state, entra.workloads(state, issuer))
    routes.add_suffix(entra.V2_TOKEN_PATH, "identity", endpoint)
    return routes


def workload_variables(settings: Settings, endpoint: str, directory: Path) -> dict[str, str]:
    """Return the variables of a workload; the directory has its token and the root certificate."""
    named = [each for each in settings.identities if isinstance(each, UserAssigned)]
    ca_file = str(directory / f"{VAULT_CA}.pem")
    variables = entra_variables(endpoint, ca_file)
    if settings.profile == "identity-binding":
        # Without the proxy, a client fails at the certificate, which is for another name.
        variables = {
            "AZURE_AUTHORITY_HOST": variables["AZURE_AUTHORITY_HOST"],
            "AZURE_KUBERNETES_CA_FILE": ca_file,
            "AZURE_KUBERNETES_SNI_NAME": BINDING_NAME,
            "AZURE_KUBERNETES_TOKEN_PROXY": endpoint,
        }
    return {
        **variables,
        "AZURE_CLIENT_ID": next((e.client_id for e in (*named, *settings.identities)), ""),
        "AZURE_FEDERATED_TOKEN_FILE": str(directory / WORKLOAD_TOKEN_FILE),
        "AZURE_TENANT_ID": (settings.machine or Machine()).tenant_id,
        **_CACHE_OFF,
    }


def entra_variables(url: str, ca_file: str) -> dict[str, str]:
    """Return the variables that direct a client of Entra to this URL, and the CA to trust."""
    return {
        "AZURE_AUTHORITY_HOST": url + "/",
        "REQUESTS_CA_BUNDLE": ca_file,
        "SSL_CERT_FILE": ca_file,
    }


def app_routes(state: EmulatorState) -> Routes | None:
    """Return the endpoint of an app platform; None for other profiles."""
    routes = Routes()
    if state.profile == "cloud-shell":
        routes.add(token.FORM_TOKEN_PATH, "identity", token.FormTokenEndpoint(state))
    elif state.profile == "aci" and state.machine.os_type != "Windows":
        routes.add(token.TOKEN_PATH, "identity", token.TokenEndpoint(state))
    elif state.profile in _APP_ENDPOINTS:
        path, endpoint = _APP_ENDPOINTS[state.profile]
        routes.add(path, "identity", endpoint(state))
    else:
        return None
    return routes


def arc_routes(state: EmulatorState, keys: KeyFiles, *, ignores_selector: bool) -> Routes:
    """Return the endpoints of Azure Arc's agent, in an older version with ``ignores_selector``."""
    routes = _instance_routes(state, instance.arc_view)
    endpoint = arc.ArcTokenEndpoint(state, keys, ignores_selector=ignores_selector)
    routes.add(token.TOKEN_PATH, "identity", endpoint)
    routes.add(token.INFO_PATH, "identity", arc.ArcInfoEndpoint(state))
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
    routes.add(attested.CA_PATH, "certificates", documents.serve_ca)
    balancer = instance.LoadBalancerEndpoint(state)
    routes.add(instance.LOAD_BALANCER_PATH, "loadbalancer", balancer)
    routes.add(scheduled_events.PATH, "scheduledevents", scheduled_events.EventsEndpoint(state))
    return routes


def _instance_routes(state: EmulatorState, view: instance.DocumentView) -> Routes:
    routes = Routes()
    routes.add(instance.PATH, "instance", instance.InstanceEndpoint(state, view), prefix=True)
    routes.add(instance.VERSIONS_PATH, "versions", instance.VersionsEndpoint(state))
    return routes


def server_header(profile: Profile) -> str:
    """Return the Server header of a host."""
    kestrel = dict.fromkeys(_LIKE_APP_SERVICE, "Kestrel")
    return {"arc": "himds", **kestrel}.get(profile, "IMDS/150.870.65.1125")


def environment(address: Address) -> dict[str, str]:
    """Return the variables that direct a client to a host and turn off the shared cache."""
    return {**_variables(address), **_CACHE_OFF}


def _variables(address: Address) -> dict[str, str]:
    profile, endpoint = address.profile, address.endpoint
    if profile in _LIKE_APP_SERVICE:
        return _app_service_variables(address)
    if profile == "arc":
        return {"IDENTITY_ENDPOINT": endpoint + token.TOKEN_PATH, "IMDS_ENDPOINT": endpoint}
    if profile == "azure-ml":
        return {
            "MSI_ENDPOINT": endpoint + app_hosts.PATH,
            "MSI_SECRET": address.secret,
            # Azure ML sets it to the name of the parameter if there is no such identity.
            "DEFAULT_IDENTITY_CLIENT_ID": address.client_id or "clientid",
        }
    if profile == "cloud-shell":
        return {"MSI_ENDPOINT": endpoint + token.FORM_TOKEN_PATH}
    if profile == "service-fabric":
        return {
            "IDENTITY_ENDPOINT": endpoint + token.TOKEN_PATH,
            "IDENTITY_HEADER": address.secret,
            "IDENTITY_SERVER_THUMBPRINT": address.thumbprint,
            "IDENTITY_API_VERSION": "2020-05-01",
        }
    if profile == "aci" and address.is_windows:
        return {
            "IDENTITY_ENDPOINT": endpoint + _CONTAINER_PATH,
            "IDENTITY_HEADER": address.secret,
        }
    return {} if profile == "stack-hub" else {"AZURE_POD_IDENTITY_AUTHORITY_HOST": endpoint}


def _app_service_variables(address: Address) -> dict[str, str]:
    url = address.endpoint + app_hosts.PATH
    # The latter two are the names of the api-version 2017-09-01.
    variables = {
        "IDENTITY_ENDPOINT": url,
        "IDENTITY_HEADER": address.secret,
        "MSI_ENDPOINT": url,
        "MSI_SECRET": address.secret,
        **_LIKE_APP_SERVICE[address.profile],
    }
    if sys.platform == "win32" and address.profile == "app-service":
        # On Windows, the first two alone mean Container Instances.
        variables["IMDS_IDENTITY_ENDPOINT"] = "app-service"
    return variables
