"""Flags that several commands share, and the token client that they configure."""

from __future__ import annotations

from .._core.source import ARC, IMDS
from .output import failure_lines, failure_status, print_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Collection
    from typing import Any

    from .._core.failure import Failure
    from .._core.identity import Identity
    from .._token_cache.client import TokenClient

_SELECTORS = ("client_id", "object_id", "resource_id")
_CREDENTIAL_OPTIONS = (*_SELECTORS, "source", "arc_tokens_directory", "cache")
_APPLICATION_OPTIONS = ("as_application", "tenant")
_OUTPUT_HELP = "one of: %(choices)s (default: %(default)s)"


def add_identity(parser: argparse.ArgumentParser) -> None:
    """Add the flags that select an identity; the default is the system-assigned identity."""
    selectors = parser.add_mutually_exclusive_group()
    for name in ("client", "object", "resource"):
        selectors.add_argument(
            f"--{name}-id",
            type=not_empty,
            metavar="ID",
            help=f"select a user-assigned identity by its {name} ID "
            "(default: the system-assigned identity)",
        )


def not_empty(value: str) -> str:
    """Refuse an empty value: an unset shell variable must not select another identity."""
    if not value.strip():
        from argparse import ArgumentTypeError

        raise ArgumentTypeError("the value is empty; omit the flag to use the default")
    return value


def add_host(parser: argparse.ArgumentParser) -> None:
    """Add the flags that select the token source."""
    parser.add_argument(
        "--source",
        choices=(IMDS, ARC),
        help="use an Azure VM's metadata service or the Azure Arc agent (default: detected)",
    )
    parser.add_argument(
        "--arc-tokens-directory",
        metavar="DIRECTORY",
        help="the directory of the Azure Arc agent's key files, if not the default one",
    )


def add_cache(parser: argparse.ArgumentParser, *aliases: str) -> None:
    """Add the flag of the shared token cache, with its ``aliases``."""
    parser.add_argument(
        "--cache",
        *aliases,
        dest="cache",
        metavar="DIRECTORY",
        help="the directory of the shared token cache, or off (default: the value of "
        "IMDS_IDENTITY_CACHE, or else a private directory in memory)",
    )


def add_token_options(parser: argparse.ArgumentParser) -> None:
    """Add the flags for the identity, the token source, the shared token cache and the log."""
    add_identity(parser)
    add_host(parser)
    add_cache(parser)
    add_verbosity(parser)


def add_application(parser: argparse.ArgumentParser) -> None:
    """Add the flags for an application that trusts the managed identity."""
    parser.add_argument(
        "--as-application",
        type=not_empty,
        metavar="CLIENT_ID",
        help="return tokens of an application that has a federated credential for the identity",
    )
    parser.add_argument(
        "--tenant",
        type=not_empty,
        metavar="TENANT",
        help="the tenant in which --as-application gets tokens",
    )


def add_cloud(parser: argparse.ArgumentParser, of: str) -> None:
    """Add ``--cloud``; ``of`` completes its help text."""
    parser.add_argument(
        "--cloud",
        metavar="NAME",
        help=f"the cloud of {of}, such as AzureUSGovernmentCloud (default: this machine's cloud)",
    )


def add_output(
    parser: argparse.ArgumentParser,
    formats: Collection[str],
    default: str,
    explanation: str = _OUTPUT_HELP,
) -> None:
    """Add the flag that selects the output format; ``explanation`` describes the formats."""
    parser.add_argument(
        "--output",
        "-o",
        choices=tuple(formats),
        default=default,
        metavar="FORMAT",
        help=explanation,
    )


def add_verbosity(parser: argparse.ArgumentParser) -> None:
    """Add the flag that shows the log."""
    parser.add_argument("--verbose", "-v", action="store_true", help="log debug output to stderr")


def doctor_command(args: argparse.Namespace, resource: str) -> str:
    """Return the command that diagnoses why there is no token for ``resource``."""
    import shlex

    command = ["imds-identity", "doctor", "--resource", resource]
    for name, value in {**credential_options(args), **application_options(args)}.items():
        command += [f"--{name.replace('_', '-')}", value] if value else []
    return shlex.join(command)


def print_failure(
    args: argparse.Namespace, resource: str, failure: Failure, question: str = ""
) -> int:
    """Print why there is no token, and the command that diagnoses it; return the exit status."""
    lines = failure_lines(failure, verbose=args.verbose)
    if question:
        lines[1:] = [question]
    lines.append(f"to diagnose this, run: {doctor_command(args, resource)}")
    return print_lines(lines, failure_status(failure))


def credential_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the values of `add_token_options` by the names of a credential's keywords."""
    return {name: getattr(args, name) for name in _CREDENTIAL_OPTIONS}


def application_options(args: argparse.Namespace) -> dict[str, str | None]:
    """Return the values of `add_application`, which few commands have.

    Raises:
        ValueError: if only one of them was given.
    """
    options = {name: getattr(args, name, None) for name in _APPLICATION_OPTIONS}
    if len({value is None for value in options.values()}) > 1:
        raise ValueError("--as-application and --tenant require each other")
    return options


def token_client(
    args: argparse.Namespace, identity: Identity | None = None, *, preload: bool = False
) -> TokenClient:
    """Return the token client that the flags configure; ``identity`` overrides their selector.

    With ``preload``, it imports everything that a fetch needs. Commands that mostly return a cached
    token do not, to be fast.

    Raises:
        ValueError: for an invalid flag.
    """
    # Imported here, because `--help` and commands that need no token do without it.
    from .._token_cache.options import CallOptions
    from .._token_cache.process import application_client, client_for

    application, tenant = application_options(args).values()
    options = credential_options(args)
    if identity is not None:
        options |= {**dict.fromkeys(_SELECTORS), **identity.setting}
    client = client_for(
        **options,
        call_options=CallOptions(logs_requests=True) if args.verbose else None,
        preload=preload,
    )
    if application is None or tenant is None:
        return client
    client = application_client(client, tenant, application)
    if preload:
        client.preload()
    return client
