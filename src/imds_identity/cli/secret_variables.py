"""Environment variables with Key Vault secrets, for ``exec``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from .._platform.environment import is_variable_name
from ._api.client import api_client
from ._api.hosts import cloud_getter
from ._api.vault import fetch_secrets, parse_reference
from .memory_files import IS_SUPPORTED, MemoryFile

if TYPE_CHECKING:
    import argparse


class UnusableSecret(Exception):
    """A secret cannot be passed in a variable."""


def secret_variables(args: argparse.Namespace, *, inheritable: bool) -> dict[str, str]:
    """Return the variables of ``--env`` and ``--file``.

    If ``inheritable``, the files survive the replacement of this process.
    """
    pairs = [_split(each) for each in (*args.env, *args.file)]
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("--env and --file set the same variable twice")
    if args.file and not IS_SUPPORTED:
        raise ValueError("--file requires Linux; use: imds-identity secret --file PATH")
    cloud = cloud_getter(args)
    addresses = [parse_reference(reference, cloud) for _, reference in pairs]
    bundles = fetch_secrets(addresses, partial(api_client, args), cloud, args.vault_resource)
    values = {name: str(bundle["value"]) for (name, _), bundle in zip(pairs, bundles, strict=True)}
    for name, _ in pairs[len(args.env) :]:
        file = MemoryFile(name, inheritable=inheritable)
        file.write(values[name].encode())
        values[name] = file.path
    with_null = [name for name, value in values.items() if "\0" in value]
    if with_null:
        raise UnusableSecret(f"{with_null[0]}: the secret contains a NUL character; use --file")
    return values


def _split(argument: str) -> tuple[str, str]:
    name, _, reference = argument.partition("=")
    if not is_variable_name(name):
        raise ValueError(f"{argument!r} is not NAME=kv://VAULT/SECRET")
    return name, reference
