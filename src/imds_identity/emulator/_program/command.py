"""``imds-identity emulator``: the emulator on the command line.

Standard output carries shell lines and nothing else, so that it can be evaluated; requests and
errors go to standard error. Ports are fixed unless 0 is asked for, so that ``--print-env`` can
print the lines and exit while the emulator runs, or is yet to run, elsewhere.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    from .._emulator import Emulator

DEFAULT_PORT = 16925
DEFAULT_KEY_VAULT_PORT = 16926
DEFAULT_ADMIN_PORT = 16927
_USAGE = 2
_FAILED = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the emulator's flags to a parser.

    Args:
        parser: The parser of the subcommand.
    """
    parser.description = (
        "Serves what managed-identity clients expect of an Azure VM, an Azure Arc server, Azure "
        "Stack Hub or App Service, until Ctrl-C or SIGTERM. What clients must export is printed "
        "to standard output as shell lines; each request is one line on standard error."
    )
    parser.add_argument(
        "--profile",
        choices=("vm", "arc", "stack-hub", "app-service"),
        help="the kind of host (default: vm)",
    )
    parser.add_argument(
        "--port", type=int, help=f"the endpoint's port; 0 is any (default: {DEFAULT_PORT})"
    )
    parser.add_argument(
        "--key-vault-port",
        type=int,
        help=f"the Key Vault's https port; 0 is any (default: {DEFAULT_KEY_VAULT_PORT})",
    )
    parser.add_argument(
        "--no-key-vault", action="store_true", default=None, help="serve no Key Vault"
    )
    parser.add_argument(
        "--admin-port",
        type=int,
        help=f"the port of the page and API on 127.0.0.1; 0 is any (default: {DEFAULT_ADMIN_PORT})",
    )
    parser.add_argument("--no-admin", action="store_true", default=None, help="serve neither")
    parser.add_argument(
        "--config", metavar="FILE", help="a TOML file; flags go before what it says"
    )
    parser.add_argument("--host", help="the address to listen on (default: 127.0.0.1)")
    parser.add_argument(
        "--allow-remote",
        action="store_true",
        default=None,
        help="let --host be an address that other machines reach; whoever reaches it gets tokens",
    )
    parser.add_argument(
        "--token-lifetime",
        type=int,
        metavar="SECONDS",
        help="how long a token lives (default: 86400)",
    )
    parser.add_argument(
        "--limits", action="store_true", default=None, help="hold clients to the limits per VM"
    )
    parser.add_argument(
        "--tokens-directory",
        metavar="DIR",
        help="where Arc's key files go (default: a temporary one)",
    )
    parser.add_argument(
        "--arc-agent",
        choices=("current", "older"),
        help="a current agent echoes the identity asked for, an older one ignores it",
    )
    parser.add_argument(
        "--user-assigned",
        action="append",
        metavar="NAME",
        help="a user-assigned identity, its ids made from its name; repeat for more",
    )
    parser.add_argument(
        "--no-system-assigned",
        action="store_true",
        default=None,
        help="give the machine no system-assigned identity",
    )
    parser.add_argument(
        "--fault",
        action="append",
        metavar="ATTRIBUTE=VALUE[,...]",
        help="a fault from the start, such as status=429,retry_after=2,times=3; repeat for more",
    )
    parser.add_argument(
        "--event",
        action="append",
        metavar="TYPE[,ATTRIBUTE=VALUE...]",
        help="a scheduled event, such as Reboot,notice=60; repeat for more",
    )
    parser.add_argument(
        "--events-speed",
        type=float,
        metavar="FACTOR",
        help="how much faster than real time scheduled events run",
    )
    parser.add_argument(
        "--identity-header",
        metavar="SECRET",
        help="the app-service profile's IDENTITY_HEADER (default: a random one)",
    )
    parser.add_argument(
        "--print-env",
        action="store_true",
        help="print what clients must export, and exit; needs fixed ports",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand.

    Args:
        args: What the parser made of the flags.

    Returns:
        The exit status: 0, 1 when it cannot serve, 2 when the flags make no sense.
    """
    try:
        from .._emulator import Emulator

        emulator = Emulator(**_arguments(args))
        if args.print_env:
            return _print_environment(emulator)
        return _serve(emulator)
    except ModuleNotFoundError as error:
        return _complain(
            f"the emulator needs {error.name}: pip install 'imds-identity[emulator]'", _FAILED
        )
    except ValueError as error:
        return _complain(str(error), _USAGE)
    except OSError as error:
        reason = error.strerror or str(error)
        named = f"{error.filename}: {reason}" if error.filename else reason
        return _complain(named, _FAILED)


def _arguments(args: argparse.Namespace) -> dict[str, Any]:
    given = {
        name: getattr(args, name)
        for name in (
            "profile",
            "host",
            "port",
            "key_vault_port",
            "admin_port",
            "allow_remote",
            "token_lifetime",
            "limits",
            "tokens_directory",
            "arc_agent",
            "identity_header",
        )
        if getattr(args, name) is not None
    }
    given.update(_described(args))
    if args.no_key_vault:
        given["key_vault"] = False
    if args.no_admin:
        given["admin_port"] = None
    ports = {
        "port": DEFAULT_PORT,
        "key_vault_port": DEFAULT_KEY_VAULT_PORT,
        "admin_port": DEFAULT_ADMIN_PORT,
    }
    if args.config is None:
        return {**ports, **given}
    from .config import load_config

    return {**ports, **load_config(args.config, **given)}


def _described(args: argparse.Namespace) -> dict[str, Any]:
    from . import flags as _flags

    given: dict[str, Any] = {}
    if args.user_assigned or args.no_system_assigned:
        given["identities"] = _flags.identities(
            args.user_assigned or (), system_assigned=not args.no_system_assigned
        )
    if args.fault:
        given["faults"] = [_flags.fault(text) for text in args.fault]
    if args.event:
        given["events"] = [_flags.event(text) for text in args.event]
    if args.events_speed is not None:
        given["events_clock"] = _flags.events_clock(args.events_speed)
    return given


def _print_environment(emulator: Emulator) -> int:
    from .serve import shell_lines

    planned = emulator.planned_environment()
    _print_lines(shell_lines(planned, emulator.planned_endpoint()))
    return 0


def _serve(emulator: Emulator) -> int:
    from .serve import print_request, serve

    serve(emulator, started=_introduce, requested=print_request)
    return 0


def _introduce(emulator: Emulator) -> None:
    from .._services.attested import ROOT_PATH
    from .serve import key_vault_lines, shell_lines

    lines = shell_lines(emulator.environment(), emulator.endpoint)
    if emulator.has_key_vault:
        lines += key_vault_lines(emulator.key_vault.url, emulator.key_vault.ca_file)
    if emulator.profile == "vm":
        lines.append(f"# The root of attested documents: {emulator.endpoint}{ROOT_PATH}")
    if emulator.tokens_directory is not None:
        lines.append(f"# Arc's key files: {emulator.tokens_directory}")
    _print_lines(lines)
    sys.stderr.write(f"Serving {emulator.profile} on {emulator.endpoint}; Ctrl-C stops it.\n")
    if emulator.admin_url is not None:
        sys.stderr.write(f"The page is at {emulator.admin_url}/\n")
    sys.stderr.flush()


def _print_lines(lines: list[str]) -> None:
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def _complain(message: str, status: int) -> int:
    sys.stderr.write(f"imds-identity emulator: {message}\n")
    return status
