"""Key Vault secrets.

https://learn.microsoft.com/rest/api/keyvault/secrets/get-secret/get-secret
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from ..._core.failure import sanitize
from .client import ApiError, error_text, json_of
from .hosts import origin_url, service_of
from .sender import ApiRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...metadata.clouds import Cloud
    from .client import ApiClient

_API_VERSION = "7.4"
_NAME = re.compile(r"[0-9A-Za-z-]{1,127}")
_MAX_THREADS = 8
_FIELDS = ("id", "value", "contentType", "attributes", "tags")


class SecretAddress(NamedTuple):
    """The address of a secret in the vault with the URL ``vault``, or of a value in its JSON."""

    vault: str
    name: str
    version: str = ""
    json_path: str = ""

    @property
    def url(self) -> str:
        """The secret's URL."""
        path = f"{self.name}/{self.version}" if self.version else self.name
        return f"{self.vault}/secrets/{path}"

    def resource(self, cloud: Callable[[], Cloud], override: str | None) -> str:
        """Return the resource whose tokens the vault accepts; ``override`` is ``--resource``."""
        host = urlsplit(self.vault).hostname or ""
        service = service_of(host, cloud)
        if service and not service.is_vault:
            raise ValueError(f"{host} is not a key vault")
        resource = override or (service and service.resource)
        if not resource:
            raise ValueError(
                f"cannot infer the resource of the vault {sanitize(host)}; pass its resource, "
                "such as --resource https://vault.azure.net"
            )
        return resource


def parse_secret_url(url: str) -> SecretAddress:
    """Parse ``https://VAULT/secrets/NAME[/VERSION]``."""
    vault = origin_url(url)
    parts = urlsplit(url)
    collection, _, path = parts.path.removeprefix("/").partition("/")
    if collection != "secrets" or parts.query or parts.fragment:
        raise ValueError(f"{sanitize(url)!r} is not https://VAULT/secrets/NAME[/VERSION]")
    return _address(url, vault, path)


def parse_reference(reference: str, cloud: Callable[[], Cloud]) -> SecretAddress:
    """Parse ``kv://VAULT/NAME[/VERSION][#JSON.KEY]``; a VAULT without a domain is in ``cloud``."""
    scheme, found, rest = reference.partition("://")
    location, _, json_path = rest.partition("#")
    host, _, path = location.partition("/")
    if scheme != "kv" or not found or not host:
        raise ValueError(f"{sanitize(reference)!r} is not kv://VAULT/NAME[/VERSION][#JSON.KEY]")
    if _NAME.fullmatch(host):
        host = f"{host}.{cloud().key_vault_suffix}"
    address = _address(reference, origin_url(f"https://{host}"), path)
    return address._replace(json_path=json_path)


def _address(reference: str, vault: str, path: str) -> SecretAddress:
    name, _, version = path.removesuffix("/").partition("/")
    if not _NAME.fullmatch(name) or (version and not _NAME.fullmatch(version)):
        raise ValueError(f"{sanitize(reference)!r} lacks a valid secret name")
    return SecretAddress(vault, name, version)


def fetch_secrets(
    addresses: Sequence[SecretAddress],
    client_for: Callable[[str], ApiClient],
    cloud: Callable[[], Cloud],
    resource: str | None = None,
) -> list[dict[str, object]]:
    """Fetch all secrets; ``resource`` is the vaults' resource, if it cannot be inferred."""
    resources = [address.resource(cloud, resource) for address in addresses]
    clients = {each: client_for(each) for each in resources}
    if len(addresses) == 1:
        return [_fetch(clients[resources[0]], addresses[0], resources[0])]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(_MAX_THREADS) as pool:
        futures = [
            pool.submit(_fetch, clients[each], address, each)
            for each, address in zip(resources, addresses, strict=True)
        ]
        return [future.result() for future in futures]


def _fetch(client: ApiClient, address: SecretAddress, resource: str) -> dict[str, object]:
    request = ApiRequest("GET", f"{address.url}?api-version={_API_VERSION}")
    response = client.request(request)
    if response.status == 401:
        _check_challenge(response.headers.get("WWW-Authenticate", ""), resource)
    if response.status != 200:
        raise ApiError(f"{address.url}: {error_text(response)}")
    bundle = json_of(response)
    value = bundle.get("value") if isinstance(bundle, dict) else None
    if not isinstance(value, str):
        raise ApiError(f"{address.url}: the vault's response has no secret value")
    if address.json_path:
        value = _value_at(address, value)
    return {name: bundle[name] for name in _FIELDS if name in bundle} | {"value": value}


def _check_challenge(challenge: str, resource: str) -> None:
    match = re.search(r'\b(?:resource|scope)="?([^",\s]+)', challenge)
    if match is None:
        return
    expected = match[1].removesuffix("/.default").rstrip("/")
    if expected.lower() != resource.rstrip("/").lower():
        raise ApiError(
            f"the vault's challenge names {sanitize(expected)}, but its domain belongs to "
            f"{resource}: refusing to send it a token"
        )


def _value_at(address: SecretAddress, secret: str) -> str:
    """Return the value at the address's JSON path of a secret."""
    try:
        found: Any = json.loads(secret)
        for key in address.json_path.split("."):
            found = found[int(key)] if isinstance(found, list) else found[key]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        raise ApiError(
            f"{address.url}: the secret has no {sanitize(address.json_path)!r}"
        ) from None
    return found if isinstance(found, str) else json.dumps(found)
