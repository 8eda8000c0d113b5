"""The command line, ``imds-identity``. Tokens go to standard output, messages to standard error."""

from __future__ import annotations

import argparse
import gc
import io
import os
import sys
from contextlib import contextmanager
from functools import partial
from importlib import import_module

from .._core.failure import sanitize
from .._platform.environment import variable_value
from .._version import __version__
from .grammar import PROGRAM, Parser, did_you_mean
from .output import (
    EXIT_STATUSES,
    FAILED,
    USAGE,
    is_broken_pipe,
    print_error,
    print_lines,
    print_notice,
    text_lines,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

_DESCRIPTION = "Managed-identity tokens on Azure VMs, scale sets and Arc servers."
_INTERRUPTED = 130
_LOG_SECONDS = 1.0

GROUPS = {
    "tokens": {
        "token": "print a managed identity's token",
        "whoami": "show which identity tokens are issued for",
        "exec": "run a command with its own token endpoint",
        "serve": "serve tokens to other programs on this machine",
        "cache": "show or clear the shared token cache",
    },
    "secrets and calls": {
        "secret": "print a Key Vault secret",
        "rest": "call an Azure REST API, like az rest",
        "docker-credential": "return credentials for Azure Container Registry to docker",
        "git-credential": "return credentials for Azure Repos to git",
        "vault-login": "sign in to HashiCorp Vault",
    },
    "metadata": {
        "metadata": "print instance metadata",
        "attested": "fetch or verify a document that proves which VM this is",
        "events": "print, follow or approve scheduled events",
    },
    "diagnosis": {
        "doctor": "diagnose managed identity problems",
    },
    "development": {
        "demo": "read a secret on an emulated VM and Arc server",
        "emulator": "emulate a VM, an Arc server and other hosts",
        "completion": "print a shell completion script",
    },
}
COMMANDS = {name: text for group in GROUPS.values() for name, text in group.items()}
"""The help of each command, whose module has ``add_arguments(parser)`` and ``run(args) -> int``."""

_NO_LOGIN = """\
no login is needed: this machine's managed identity is used
  imds-identity whoami           shows the identity
  imds-identity token RESOURCE   prints a token
  imds-identity doctor           diagnoses problems"""

if TYPE_CHECKING:
    # PyInstaller and similar tools find these statements, but not the names in `load_command`.
    from ..emulator._cli import command  # noqa: F401
    from . import (  # noqa: F401
        attested,
        cache,
        completion,
        demo,
        docker_credential,
        doctor,
        events,
        git_credential,
        metadata,
        rest,
        secret,
        serve,
        token,
        vault_login,
        whoami,
    )
    from . import exec as exec_  # noqa: F401


def load_command(name: str) -> ModuleType:
    """Import the module of one command: importing all of them would make `token` slow."""
    module = "..emulator._cli.command" if name == "emulator" else f".{name.replace('-', '_')}"
    return import_module(module, __name__)


def program() -> int:
    """Run the command line as the whole program; return the exit status."""
    status = main()
    gc.freeze()  # shutdown then skips the search for cycles, a tenth of the time of `token`
    return status


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit status, one of `EXIT_STATUSES`."""
    words = sys.argv[1:] if arguments is None else arguments
    if sys.stdout is None:
        return print_error("standard output is closed")
    _escape_unencodable_output()
    try:
        status = _run(words)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _INTERRUPTED
    except ValueError as error:
        lines = text_lines(str(error), verbose="-v" in words)
        return print_lines([*lines, f"help: {PROGRAM} {words[0]} --help"], USAGE)
    except Exception as error:  # noqa: BLE001 - a traceback does not help users and may show secrets
        if is_broken_pipe(error):
            _discard_output()
            return FAILED
        return print_error(_unexpected(error, verbose="-v" in words))
    return status


def _run(words: list[str]) -> int:
    if variable_value("_ARGCOMPLETE"):
        load_command("completion").complete(build_parser)
    if not words:
        build_parser(words).print_help(sys.stderr)
        return USAGE
    if words[0] in ("login", "logout"):
        print_notice(_NO_LOGIN)
        return 0
    args = _parse(_command_line(words))
    with _log_to_stderr(verbose=getattr(args, "verbose", False)):
        return int(load_command(args.command).run(args))


def _unexpected(error: Exception, *, verbose: bool) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    kind = f" ({type(error).__name__})" if verbose else ""
    return f"unexpected error{kind}: {sanitize(str(error))}"


@contextmanager
def _log_to_stderr(*, verbose: bool) -> Iterator[None]:
    """Write the package's log to standard error if ``verbose``."""
    if not verbose:
        yield
        return
    import logging

    from .._platform.threads import join_all

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("imds-identity: %(message)s"))
    logger = logging.getLogger("imds_identity")
    previous_level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        # A background thread logs the fetch, maybe after the command has got its token.
        join_all(_LOG_SECONDS)
        logger.removeHandler(handler)
        logger.setLevel(previous_level)


def build_parser(words: list[str]) -> Parser:
    """Return the parser for a command line.

    If the first word names a command, the parser has this command only, with its arguments.
    Otherwise it has all commands, without their arguments.
    """
    parser = Parser(
        prog=PROGRAM,
        usage=f"{PROGRAM} COMMAND [FLAGS] [ARGUMENT ...]",
        description="\n\n".join([_DESCRIPTION, *map(_list, GROUPS)]),
        epilog=EXIT_STATUSES,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", prog=PROGRAM, help=argparse.SUPPRESS
    )
    chosen = [name for name in words[:1] if name in COMMANDS]
    for name in chosen or COMMANDS:
        subparser = commands.add_parser(name, help=COMMANDS[name])
        if chosen:
            command = load_command(name)
            command.add_arguments(subparser)
            report = getattr(command, "report_usage_error", None)
            parser.report_error = subparser.report_error = report and partial(report, words)
    return parser


def _list(group: str) -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {text}" for name, text in GROUPS[group].items()]
    return "\n".join([f"{group}:", *lines])


def _parse(words: list[str]) -> argparse.Namespace:
    parser = build_parser(words)
    flag = words[0].partition("=")[0]
    if flag.startswith("-") and flag not in parser._option_string_actions:
        hint = " before the command: flags follow it"
        if COMMANDS.keys().isdisjoint(words):
            hint = did_you_mean(flag, parser._option_string_actions, {})
        parser.error(f"unknown flag {flag}{hint}")
    return parser.parse_args(words)


def _command_line(words: list[str]) -> list[str]:
    """Return the words with ``help`` and ``version`` as flags, as other programs accept them."""
    if words[0] in ("help", "--help", "-h"):
        return [*words[1:2], "--help"]
    if "get-access-token" in words:  # of az account
        return ["get-access-token"]
    return ["--version"] if words[0] == "version" else words


def _escape_unencodable_output() -> None:
    """Escape characters that the terminal's encoding lacks; a cached name may contain any."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _discard_output() -> None:
    """Redirect standard output to null: otherwise Python reports a broken pipe at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
