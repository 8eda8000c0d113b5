"""Environment variables with Key Vault secrets, for ``exec``."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from .._platform.files import write_all
from ._api.client import api_client
from ._api.hosts import cloud_getter
from ._api.vault import fetch_secrets, parse_reference

if TYPE_CHECKING:
    import argparse

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class UnusableSecret(Exception):
    """A secret cannot be passed in a variable."""


def secret_variables(args: argparse.Namespace, *, inheritable: bool) -> dict[str, str]:
    """Return the variables of ``--env`` and ``--file``.

    If ``inheritable``, the files survive the replacement of this process.
    """
    pairs = [_split(each) for each in (*args.env, *args.file)]
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("--env and --file set the same variable twice")
    if args.file and not hasattr(os, "memfd_create"):
        raise ValueError("--file requires Linux; use: imds-identity secret --file PATH")
    cloud = cloud_getter(args)
    addresses = [parse_reference(reference, cloud) for _, reference in pairs]
    bundles = fetch_secrets(addresses, partial(api_client, args), cloud, args.vault_resource)
    values = {name: str(bundle["value"]) for (name, _), bundle in zip(pairs, bundles, strict=True)}
    for name, _ in pairs[len(args.env) :]:
        values[name] = _memory_file(name, values[name].encode(), inheritable=inheritable)
    with_null = [name for name, value in values.items() if "\0" in value]
    if with_null:
        raise UnusableSecret(f"{with_null[0]}: the secret contains a NUL character; use --file")
    return values


def _split(argument: str) -> tuple[str, str]:
    name, _, reference = argument.partition("=")
    if not _VARIABLE.fullmatch(name):
        raise ValueError(f"{argument!r} is not NAME=kv://VAULT/SECRET")
    return name, reference


def _memory_file(name: str, content: bytes, *, inheritable: bool) -> str:
    """Return the path of a file in memory, which exists until its last descriptor is closed.

    Programs that inherit the descriptor can read the file, and none can change it.
    """
    import fcntl  # not on Windows

    seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
    writable = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        write_all(writable, content)
        os.fchmod(writable, 0o400)
        with suppress(OSError):  # gVisor has no seals
            fcntl.fcntl(writable, fcntl.F_ADD_SEALS, seals)
        descriptor = os.open(f"/proc/self/fd/{writable}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(writable)
    os.set_inheritable(descriptor, inheritable)
    # The path of this process, because children of the command do not inherit the descriptor.
    return f"/proc/{os.getpid()}/fd/{descriptor}"
