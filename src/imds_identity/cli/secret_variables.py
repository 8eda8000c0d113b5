"""Variables with secrets of key vaults, for a command."""

from __future__ import annotations

import os
import re
from functools import partial
from typing import TYPE_CHECKING

from ._api.hosts import cloud_of
from ._api.sending import Problem, caller_for
from ._api.vault import address_in, fetched

if TYPE_CHECKING:
    import argparse

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class SecretsMissing(Exception):
    """The command must not start: the message says which secret it would lack."""


def variables_with_secrets(args: argparse.Namespace, *, inheritable: bool) -> dict[str, str]:
    """The variables that ``--env`` and ``--file`` ask for, all of them.

    Args:
        args: of the command line.
        inheritable: whether this process is to be replaced and its files must outlive that.

    Raises:
        ValueError: for what is not understood.
        SecretsMissing: if one cannot be had.
    """
    asked = [_split(each) for each in (*args.env, *args.file)]
    if len({name for name, _ in asked}) < len(asked):
        raise ValueError("--env and --file give a variable twice")
    if args.file and not hasattr(os, "memfd_create"):
        raise ValueError("--file needs Linux; elsewhere use: imds-identity secret --file PATH")
    addresses = [address_in(reference, partial(cloud_of, args)) for _, reference in asked]
    try:
        bundles = fetched(addresses, partial(caller_for, args), args.vault_resource)
    except Problem as problem:
        raise SecretsMissing(problem) from None
    values = {name: str(bundle["value"]) for (name, _), bundle in zip(asked, bundles, strict=True)}
    for name, _ in asked[len(args.env) :]:
        values[name] = _file_in_memory(name, values[name].encode(), inheritable=inheritable)
    with_null = [name for name, value in values.items() if "\0" in value]
    if with_null:
        raise SecretsMissing(f"{with_null[0]}: a variable cannot hold this secret; use --file")
    return values


def _split(given: str) -> tuple[str, str]:
    name, _, reference = given.partition("=")
    if not _VARIABLE.fullmatch(name):
        raise ValueError(f"{given!r} is not NAME=kv://VAULT/SECRET")
    return name, reference


def _file_in_memory(name: str, content: bytes, *, inheritable: bool) -> str:
    """The path of a file that is on no disk and ends with this process, whatever ends that."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
    os.write(descriptor, content)
    os.fchmod(descriptor, 0o400)
    os.set_inheritable(descriptor, inheritable)
    # By way of this process, because programs do not pass their descriptors on.
    return f"/proc/{os.getpid()}/fd/{descriptor}"
