"""``imds-identity emulator``: the emulator on the command line.

Standard output carries shell lines and nothing else, so that it can be evaluated; requests and
errors go to standard error. Ports are fixed unless 0 is asked for, so that ``--print-env`` can
print the lines and exit while the emulator runs, or is yet to run, elsewhere.
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
    """Add the emulator's flags to a parser.

    Args:
        parser: of the subcommand.
    """
    from .options import add_flags

    parser.description = (
        "Serves what managed-identity clients expect of an Azure VM, an Azure Arc server, Azure "
        "Stack Hub or App Service, until Ctrl-C, SIGTERM or SIGHUP. What clients must export is "
        "printed to standard output as shell lines; each request is one line on standard error. "
        "A flag may be an environment variable too: --token-lifetime is "
        "IMDS_EMULATOR_TOKEN_LIFETIME."
    )
    add_flags(parser)
    parser.add_argument(
        "--config", metavar="FILE", help="a TOML file; flags go before what it says"
    )
    parser.add_argument(
        "--port-base",
        type=int,
        metavar="NUMBER",
        help="the first of three ports in a row, where none is given: endpoint, Key Vault, page "
        f"(default: {_PORT_BASE})",
    )
    parser.add_argument(
        "--print-env",
        action="store_true",
        help="print what clients must export, and exit; needs fixed ports",
    )


def run(args: argparse.Namespace) -> int:
    """Run the subcommand.

    Args:
        args: what the parser made of the flags.

    Returns:
        The exit status: 0, 1 when it cannot serve, 2 when the flags make no sense.
    """
    try:
        from .._emulator import Emulator
        from .._settings import Settings

        arguments = _arguments(args)
        if args.print_env:
            return _print_environment(Settings(**arguments))
        return _serve(Emulator(**arguments))
    except ModuleNotFoundError as error:
        return _complain(
            f"the emulator needs {error.name}: pip install 'imds-identity[emulator]'", _FAILED
        )
    except ValueError as error:
        return _complain(str(error), _USAGE)
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno == errno.EADDRINUSE:
            reason += " If another emulator runs there, --port-base 17000 puts this one beside it."
        named = f"{error.filename}: {reason}" if error.filename else reason
        return _complain(named, _FAILED)


def _arguments(args: argparse.Namespace) -> dict[str, Any]:
    from . import flags, variables
    from .options import command_defaults

    for name, value in variables.given(os.environ).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    given = flags.arguments(args)
    if args.config is not None:
        from .config import load_config

        given = load_config(args.config, **given)
    base = _PORT_BASE if args.port_base is None else args.port_base
    ports = {name: base + offset for offset, name in enumerate(_PORTS)}
    return {**command_defaults(), **ports, **given}


def _print_environment(settings: Settings) -> int:
    from .._profiles.exports import shell_lines
    from .plan import planned_endpoint, planned_environment, planned_key_vault

    environment = planned_environment(settings)
    _print_lines(shell_lines(environment, planned_endpoint(settings), planned_key_vault(settings)))
    return 0


def _serve(emulator: Emulator) -> int:
    from .lines import Lines
    from .serve import introduction, request_line, serve

    lines = Lines(sys.stderr)

    def introduce(emulator: Emulator) -> None:
        _print_lines(_exports(emulator))
        for line in introduction(emulator):
            lines.add(line)

    try:
        serve(
            emulator,
            started=introduce,
            requested=lambda record: lines.add(request_line(record)),
        )
    finally:
        lines.close()
    return 0


def _exports(emulator: Emulator) -> list[str]:
    from .._profiles.exports import shell_lines

    vault = None
    if emulator.has_key_vault:
        vault = (emulator.key_vault.url, emulator.key_vault.ca_file)
    return shell_lines(emulator.environment(), emulator.endpoint, vault)


def _print_lines(lines: list[str]) -> None:
    if sys.stdout is not None:  # it is None where whoever started this closed it
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()


def _complain(message: str, status: int) -> int:
    if sys.stderr is not None:
        sys.stderr.write(f"imds-identity emulator: {message}\n")
    return status
