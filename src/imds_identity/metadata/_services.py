"""The resources of Azure services, by host name and by the names that people try."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

from .clouds import CHINA, CLOUDS, GERMANY, PUBLIC, US_GOVERNMENT, Cloud, is_dns_name

_GRAPHS = {
    "graph.microsoft.com": PUBLIC,
    "graph.microsoft.us": US_GOVERNMENT,
    "dod-graph.microsoft.us": US_GOVERNMENT,
    "microsoftgraph.chinacloudapi.cn": CHINA,
}
_STORAGE = "https://storage.azure.com"
_STORAGE_SERVICES = ("blob", "dfs", "file", "queue", "table")
_VAULT_NAMES = ("vault", "keyvault", "key-vault", "kv", "akv")
CONTAINER_REGISTRY = "https://containerregistry.azure.net"
OPEN_SOURCE_DATABASES = "https://ossrdbms-aad.database.windows.net"
AZURE_DEVOPS = "499b84ac-1321-427f-aa17-267ca6975798"
"""The resource of Azure Repos and Azure Artifacts."""
# Other services of the public cloud whose resource is not the host that a program connects to.
_RESOURCES = {
    "azurecr.io": CONTAINER_REGISTRY,
    "azuredatabricks.net": "2ff814a6-3304-4ab8-85cb-cd0e6f879c1d",
    "cognitiveservices.azure.com": "https://cognitiveservices.azure.com",
    "database.windows.net": "https://database.windows.net",
    "dev.azure.com": AZURE_DEVOPS,
    "dev.azuresynapse.net": "https://dev.azuresynapse.net",
    "managedhsm.azure.net": "https://managedhsm.azure.net",
    "mysql.database.azure.com": OPEN_SOURCE_DATABASES,
    "openai.azure.com": "https://cognitiveservices.azure.com",
    "postgres.database.azure.com": OPEN_SOURCE_DATABASES,
    "redis.cache.windows.net": "https://redis.azure.com",
    "search.windows.net": "https://search.azure.com",
    "servicebus.windows.net": "https://servicebus.azure.net",
    "sql.azuresynapse.net": "https://database.windows.net",
}
_MIN_LIKENESS = 0.85
_STORAGE_NAMES = ("storage", "blob", "blobs", "dfs", "queue", "table")
_MANAGER_NAMES = ("arm", "management", "azure", "manager", "resource-manager")
_GRAPH_NAMES = ("graph", "msgraph", "ms-graph", "microsoft-graph")


class Service(NamedTuple):
    """An Azure service: its cloud, and the resource whose tokens it accepts."""

    cloud: Cloud
    resource: str
    is_vault: bool = False


def service_at(host: str) -> Service | None:
    """Return the service at ``host``, in lower case; None if the name is not one of Azure's."""
    for cloud in (*CLOUDS, GERMANY):
        if host == urlsplit(cloud.resource_manager).hostname:
            return Service(cloud, cloud.resource_manager)
        if _is_subdomain(host, cloud.key_vault_suffix):
            return Service(cloud, _vault(cloud), is_vault=True)
        if any(_is_subdomain(host, f"{s}.{cloud.storage_suffix}") for s in _STORAGE_SERVICES):
            return Service(cloud, _STORAGE)
    return Service(_GRAPHS[host], f"https://{host}") if host in _GRAPHS else None


def is_azure_repos(host: str) -> bool:
    """Return whether Azure Repos is at ``host``, in lower case and from any program."""
    return host == "dev.azure.com" or _is_subdomain(host, "visualstudio.com")


def is_azure_artifacts(host: str) -> bool:
    """Return whether Azure Artifacts is at ``host``, in lower case and from any program."""
    return host == "pkgs.dev.azure.com" or _is_subdomain(host, "pkgs.visualstudio.com")


def suggested_resource(requested: str, cloud: Cloud = PUBLIC) -> str:
    """Return the resource that was probably meant; empty if there is no better one.

    Args:
        requested: the resource that the service does not know: a host, a URL or a short name.
        cloud: this machine's cloud.
    """
    text = requested.strip().lower()
    host = text.partition("://")[2] or text
    host = host.partition("/")[0].partition(":")[0]
    found = _named(host, cloud) or _of_host(host, cloud)
    return "" if found == text.rstrip("/") else found


def nearest_resource(requested: str, cloud: Cloud = PUBLIC) -> str:
    """Return the resource of a service in ``cloud`` that is spelled almost the same; else empty."""
    from difflib import get_close_matches

    known = [_STORAGE, _vault(cloud), cloud.resource_manager]
    known += [f"https://{host}" for host, its in _GRAPHS.items() if its == cloud]
    known += [each for each in _RESOURCES.values() if "://" in each and cloud == PUBLIC]
    matches = get_close_matches(requested.lower().rstrip("/"), known, 1, _MIN_LIKENESS)
    return matches[0] if matches else ""


def _named(name: str, cloud: Cloud) -> str:
    graph = next((f"https://{host}" for host, its in _GRAPHS.items() if its == cloud), "")
    resources = (
        (_VAULT_NAMES, _vault(cloud)),
        (_STORAGE_NAMES, _STORAGE),
        (_MANAGER_NAMES, cloud.resource_manager),
        (_GRAPH_NAMES, graph),
    )
    return next((resource for names, resource in resources if name in names), "")


def _of_host(host: str, cloud: Cloud) -> str:
    for other in (*CLOUDS, GERMANY):
        if host == other.key_vault_suffix:
            return _vault(cloud)
        if host == urlsplit(other.resource_manager).hostname:
            return cloud.resource_manager
    if service := service_at(host):
        return service.resource
    for suffix, resource in _RESOURCES.items():
        if cloud == PUBLIC and f".{host}".endswith(f".{suffix}"):
            return resource
    return f"https://{host}" if "." in host and is_dns_name(host) else ""


def _vault(cloud: Cloud) -> str:
    return f"https://{cloud.key_vault_suffix}"


def _is_subdomain(host: str, suffix: str) -> bool:
    label, _, domain = host.partition(".")
    return domain == suffix and is_dns_name(label)
