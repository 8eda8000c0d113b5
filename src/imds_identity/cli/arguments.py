"""Flags that several commands share, and what is built of them."""

from __future__ import annotations

from .._core.source import ARC, IMDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Collection
    from typing import Any

    from .._core.identity import Identity
    from .._token_cache.client import TokenClient

_SELECTORS = ("client_id", "object_id", "resource_id")
_OF_A_TOKEN = (*_SELECTORS, "source", "arc_tokens_directory", "cache")
_OUTPUT_HELP = "one of: %(choices)s (default: %(default)s)"


def add_identity(parser: argparse.ArgumentParser) -> None:
    """Add the flags that select an identity; without one it is the system-assigned identity."""
    selectors = parser.add_mutually_exclusive_group()
    for name in ("client", "object", "resource"):
        selectors.add_argument(
            f"--{name}-id",
            type=filled,
            metavar="ID",
            help=f"a user-assigned identity, by its {name} id, in place of the system-assigned",
        )


def filled(value: str) -> str:
    """A shell's variable that is not set must not mean something else, such as another identity."""
    if not value.strip():
        from argparse import ArgumentTypeError

        raise ArgumentTypeError("it is empty; leave the flag out for the default")
    return value


def add_host(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say who is asked for tokens."""
    parser.add_argument(
        "--source",
        choices=(IMDS, ARC),
        help="ask an Azure VM's service or the Azure Arc agent (default: what is detected)",
    )
    parser.add_argument(
        "--arc-tokens-directory",
        metavar="DIRECTORY",
        help="where the Azure Arc agent keeps its key files, if not where it usually does",
    )


def add_cache(parser: argparse.ArgumentParser, *aliases: str) -> None:
    """Add the flag that says where this user's processes share tokens.

    Args:
        parser: takes it.
        aliases: other names of the flag.
    """
    parser.add_argument(
        "--cache",
        *aliases,
        dest="cache",
        metavar="DIRECTORY",
        help="where this user's processes share tokens, or off (default: what "
        "IMDS_IDENTITY_CACHE says, else a private directory in memory)",
    )


def add_source_of_tokens(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say whose tokens are asked for, of whom, and where they are shared."""
    add_identity(parser)
    add_host(parser)
    add_cache(parser)


def add_output(
    parser: argparse.ArgumentParser,
    formats: Collection[str],
    default: str,
    explanation: str = _OUTPUT_HELP,
) -> None:
    """Add the flag that says in which format to write.

    Args:
        parser: takes it.
        formats: to choose from.
        default: one of them.
        explanation: what each of them is, if their names do not tell.
    """
    parser.add_argument(
        "--output",
        "-o",
        choices=tuple(formats),
        default=default,
        metavar="FORMAT",
        help=explanation,
    )


def add_verbosity(parser: argparse.ArgumentParser) -> None:
    """Add the flag that shows on standard error what is done."""
    parser.add_argument(
        "--verbose", "-v", action="store_true", help="say on standard error what is done"
    )


def doctor_command(args: argparse.Namespace, resource: str) -> str:
    """The command that finds out why there is no token for ``resource`` with the same flags."""
    import shlex

    command = ["imds-identity", "doctor", "--resource", resource]
    for name, value in settings_of(args).items():
        command += [f"--{name.replace('_', '-')}", value] if value else []
    return shlex.join(command)


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """What the flags of `add_source_of_tokens` say, by the names of a credential's keywords."""
    return {name: getattr(args, name) for name in _OF_A_TOKEN}


def client_of(
    args: argparse.Namespace, identity: Identity | None = None, *, preload: bool = False
) -> TokenClient:
    """What gets tokens as the flags of all that is added here say.

    Args:
        args: of the command line.
        identity: whose tokens, where the flags do not say it.

    Raises:
        ValueError: for a flag that is not understood.
    """
    # Not sooner: what needs no token is not to wait for what gets one.
    from .._token_cache.options import CallOptions
    from .._token_cache.process import client_for

    settings = settings_of(args)
    if identity is not None:
        settings |= {**dict.fromkeys(_SELECTORS), **identity.setting}
    return client_for(
        **settings,
        call_options=CallOptions(logs_requests=True) if args.verbose else None,
        preload=preload,
    )
