"""Secrets of key vaults.

https://learn.microsoft.com/rest/api/keyvault/secrets/get-secret/get-secret
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from ..._core.failure import sanitize
from .hosts import origin_of, resource_for
from .sending import Call, Problem, json_of, words_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...metadata.clouds import Cloud
    from .sending import Caller

_API_VERSION = "7.4"
_NAME = re.compile(r"[0-9A-Za-z-]{1,127}")
_MOST_AT_ONCE = 8
_REPORTED = ("id", "value", "contentType", "attributes", "tags")


class Address(NamedTuple):
    """Where a secret is.

    Attributes:
        vault: the vault's URL.
        name: the secret's.
        version: of the secret; empty for the newest.
        field: the way to a value in the JSON that the secret is; empty for all of it.
    """

    vault: str
    name: str
    version: str = ""
    field: str = ""

    @property
    def url(self) -> str:
        """The URL of the secret itself."""
        path = f"{self.name}/{self.version}" if self.version else self.name
        return f"{self.vault}/secrets/{path}"

    def resource(self, given: str | None) -> str:
        """The resource whose token the vault takes.

        Args:
            given: by the user, for a vault under a name of their own.

        Raises:
            ValueError: if the user must say.
        """
        host = urlsplit(self.vault).hostname or ""
        known = given or resource_for(host)
        if known is None:
            raise ValueError(
                f"{sanitize(host)} is no name of a key vault in a cloud of Azure: say whose token "
                "it may see, such as --resource https://vault.azure.net"
            )
        return known


def address_of(url: str) -> Address:
    """The secret at ``https://VAULT/secrets/NAME[/VERSION]``.

    Raises:
        ValueError: if that is no such URL.
    """
    vault = origin_of(url)
    parts = urlsplit(url)
    kind, _, rest = parts.path.removeprefix("/").partition("/")
    if kind != "secrets" or parts.query or parts.fragment:
        raise ValueError(f"{sanitize(url)!r} is not https://VAULT/secrets/NAME[/VERSION]")
    return _checked(url, vault, rest)


def address_in(reference: str, cloud: Callable[[], Cloud]) -> Address:
    """The secret at ``kv://VAULT/NAME[/VERSION][#JSON.KEY]``.

    Args:
        reference: where VAULT is a name in ``cloud``, or a host.
        cloud: the machine's, asked only where it matters.

    Raises:
        ValueError: if that is no such reference.
    """
    scheme, found, rest = reference.partition("://")
    where, _, field = rest.partition("#")
    host, _, path = where.partition("/")
    if scheme != "kv" or not found or not host:
        raise ValueError(f"{sanitize(reference)!r} is not kv://VAULT/NAME[/VERSION][#JSON.KEY]")
    if _NAME.fullmatch(host):
        host = f"{host}.{cloud().key_vault_suffix}"
    return _checked(reference, origin_of(f"https://{host}"), path)._replace(field=field)


def _checked(given: str, vault: str, path: str) -> Address:
    name, _, version = path.removesuffix("/").partition("/")
    if not _NAME.fullmatch(name) or (version and not _NAME.fullmatch(version)):
        raise ValueError(f"{sanitize(given)!r} names no secret: it is the NAME of kv://VAULT/NAME")
    return Address(vault, name, version)


def fetched(
    addresses: Sequence[Address], caller_of: Callable[[str], Caller], resource: str | None = None
) -> list[dict[str, Any]]:
    """The secrets at ``addresses``, all of them or none.

    Args:
        addresses: where they are.
        caller_of: makes what calls services with a resource's token.
        resource: whose token the vaults take, where their names do not tell.

    Raises:
        ValueError: for a vault that may not see a token.
        Problem: if one of the secrets cannot be had.
    """
    resources = [address.resource(resource) for address in addresses]
    callers = {each: caller_of(each) for each in resources}
    if len(addresses) == 1:
        return [_fetched(callers[resources[0]], addresses[0], resources[0])]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(_MOST_AT_ONCE) as pool:
        jobs = [
            pool.submit(_fetched, callers[each], address, each)
            for each, address in zip(resources, addresses, strict=True)
        ]
        return [job.result() for job in jobs]


def _fetched(caller: Caller, address: Address, resource: str) -> dict[str, Any]:
    with caller.call(Call("GET", f"{address.url}?api-version={_API_VERSION}")) as answer:
        if answer.status == 401:
            _check_challenge(answer.headers.get("WWW-Authenticate", ""), resource)
        if answer.status != 200:
            raise Problem(f"{address.url}: {words_of(answer)}")
        said = json_of(answer)
    value = said.get("value") if isinstance(said, dict) else None
    if not isinstance(value, str):
        raise Problem(f"{address.url}: the vault's answer holds no secret")
    if address.field:
        value = _within(value, address)
    return {name: said[name] for name in _REPORTED if name in said} | {"value": value}


def _check_challenge(challenge: str, resource: str) -> None:
    named = re.search(r'\b(?:resource|scope)="?([^",\s]+)', challenge)
    if named is None:
        return
    said = named[1].removesuffix("/.default").rstrip("/")
    if said.lower() != resource.rstrip("/").lower():
        raise Problem(
            f"the vault's challenge names {sanitize(said)}, which is not the resource of its "
            f"domain, {resource}: it gets no token"
        )


def _within(value: str, address: Address) -> str:
    """The value at the address's field of the JSON that ``value`` is."""
    try:
        found: Any = json.loads(value)
        for key in address.field.split("."):
            found = found[int(key)] if isinstance(found, list) else found[key]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        raise Problem(f"{address.url}: the secret has no {sanitize(address.field)!r}") from None
    return found if isinstance(found, str) else json.dumps(found)
