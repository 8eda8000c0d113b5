"""``imds-identity emulator``: the emulator on the command line.

Standard output gets shell lines only, so that a shell can evaluate it; requests and errors go to
standard error. Ports are fixed by default, so that ``--print-env`` can print the lines for an
emulator that runs elsewhere or has not started yet.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    from .._emulator import Emulator
    from .._settings import Settings

_USAGE = 2
_FAILED = 1
_PORT_BASE = 16925
_PORTS = ("port", "key_vault_port", "admin_port")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the emulator's flags to the parser of the subcommand."""
    from .options import add_flags

    parser.description = (
        "Emulates the services that managed-identity clients use on an Azure VM, an Azure Arc "
        "server, Azure Stack Hub or App Service, until Ctrl-C, SIGTERM or SIGHUP. Prints the "
        "environment variables for clients to stdout as shell lines, and each request to stderr. "
        "Every flag can also be set by an environment variable, such as "
        "IMDS_EMULATOR_TOKEN_LIFETIME for --token-lifetime."
    )
    add_flags(parser)
    parser.add_argument(
        "--config", metavar="FILE", help="a TOML file with options; flags take precedence"
    )
    parser.add_argument(
        "--port-base",
        type=int,
        metavar="NUMBER",
        help="the first of three consecutive ports, for endpoint, Key Vault and admin page "
        f"(default: {_PORT_BASE})",
    )
    parser.add_argument(
        "--env-format",
        metavar="FORMAT",
        help="the format of the environment variables: sh, fish, powershell or json, where a "
        "variable to unset is null (default: sh)",
    )
    parser.add_argument(
        "--print-env",
        action="store_true",
        help="print the environment variables for clients and exit; requires fixed ports",
    )


def run(args: argparse.Namespace) -> int:
    """Run the subcommand; return 1 if the emulator cannot serve, 2 if the flags are not valid."""
    try:
        from .._emulator import Emulator
        from .._settings import Settings

        arguments = _arguments(args)
        form = _env_format(args.env_format)
        if args.print_env:
            return _print_environment(Settings(**arguments), form)
        return _serve(Emulator(**arguments), form)
    except ModuleNotFoundError as error:
        return _fail(
            f"the emulator requires {error.name}: pip install 'imds-identity[emulator]'", _FAILED
        )
    except ValueError as error:
        return _fail(str(error), _USAGE)
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno == errno.EADDRINUSE:
            reason += " If another emulator uses the port, try --port-base 17000."
        message = f"{error.filename}: {reason}" if error.filename else reason
        return _fail(message, _FAILED)


def _arguments(args: argparse.Namespace) -> dict[str, Any]:
    from .env_flags import flags_from_environment
    from .flag_parsing import emulator_arguments
    from .options import command_defaults
    from .print_env import default_state

    for name, value in flags_from_environment(os.environ).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    given = emulator_arguments(args)
    if args.config is not None:
        from .config import load_config

        given = load_config(args.config, **given)
    base = _PORT_BASE if args.port_base is None else args.port_base
    ports = {name: base + offset for offset, name in enumerate(_PORTS)}
    arguments: dict[str, Any] = {**command_defaults(), **ports, **given}
    return {"state": default_state(arguments["port"]), **arguments}


def _env_format(form: str | None) -> str:
    from .._option import check_choice
    from .._profiles.exports import FORMATS

    check_choice("--env-format", form or "sh", FORMATS)
    return form or "sh"


def _print_environment(settings: Settings, form: str) -> int:
    from .._profiles.exports import client_variables, format_variables
    from .print_env import fixed_endpoint, fixed_environment, fixed_key_vault

    vault = fixed_key_vault(settings)
    variables = client_variables(fixed_environment(settings), fixed_endpoint(settings), vault)
    _print_lines(format_variables(variables, form))
    if vault is not None and vault[1] is None and sys.stderr is not None:
        sys.stderr.write(
            "imds-identity emulator: note: there is no directory for the state of this user's "
            "emulators, so the certificate of the Key Vault is new at every start; with --state "
            "DIR, here and where the emulator is started, its file is printed, too\n"
        )
    return 0


def _serve(emulator: Emulator, form: str) -> int:
    from .line_writer import LineWriter
    from .serve import request_line, serve, startup_lines

    lines = LineWriter(sys.stderr)

    def print_startup(emulator: Emulator) -> None:
        _print_lines(_exports(emulator, form))
        for line in startup_lines(emulator):
            lines.add(line)

    try:
        serve(
            emulator,
            started=print_startup,
            requested=lambda record: lines.add(request_line(record)),
        )
    finally:
        lines.close()
    return 0


def _exports(emulator: Emulator, form: str) -> list[str]:
    from .._profiles.exports import client_variables, format_variables

    vault = None
    if emulator.has_key_vault:
        vault = (emulator.key_vault.url, emulator.key_vault.ca_file)
    return format_variables(
        client_variables(emulator.environment(), emulator.endpoint, vault), form
    )


def _print_lines(lines: list[str]) -> None:
    if sys.stdout is not None:  # None if the parent process closed it
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()


def _fail(message: str, status: int) -> int:
    if sys.stderr is not None:
        sys.stderr.write(f"imds-identity emulator: {message}\n")
    return status
