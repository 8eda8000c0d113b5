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

_USAGE = 2
_FAILED = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the emulator's flags to a parser.

    Args:
        parser: of the subcommand.
    """
    from .options import add_flags

    parser.description = (
        "Serves what managed-identity clients expect of an Azure VM, an Azure Arc server, Azure "
        "Stack Hub or App Service, until Ctrl-C or SIGTERM. What clients must export is printed "
        "to standard output as shell lines; each request is one line on standard error."
    )
    add_flags(parser)
    parser.add_argument(
        "--config", metavar="FILE", help="a TOML file; flags go before what it says"
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
    from . import flags
    from .options import command_defaults

    given = flags.arguments(args)
    if args.config is None:
        return {**command_defaults(), **given}
    from .config import load_config

    return {**command_defaults(), **load_config(args.config, **given)}


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
