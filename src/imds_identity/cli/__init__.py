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

from .._core.failure import escape, sanitize
from .._platform.environment import variable_value
from .._version import __version__
from .output import FAILED, is_broken_pipe, print_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType
    from typing import NoReturn

USAGE = 2
_INTERRUPTED = 130
_LOG_SECONDS = 1.0

COMMANDS = {
    "token": "print a managed identity's token",
    "exec": "run a command with its own token endpoint",
    "metadata": "print instance metadata",
    "attested": "fetch or verify a document that proves which VM this is",
    "events": "print, follow or approve scheduled events",
    "serve": "serve tokens to other programs on this machine",
    "secret": "print a Key Vault secret",
    "rest": "call an Azure REST API, like az rest",
    "whoami": "show which identity tokens are issued for",
    "docker-credential": "return credentials for Azure Container Registry to docker",
    "git-credential": "return credentials for Azure Repos to git",
    "vault-login": "sign in to HashiCorp Vault",
    "cache": "show or clear the shared token cache",
    "doctor": "diagnose managed identity problems",
    "completion": "print a shell completion script",
    "demo": "read a secret on an emulated VM and Arc server",
    "emulator": "emulate a VM, an Arc server and other hosts",
}
"""The help of each command, whose module has ``add_arguments(parser)`` and ``run(args) -> int``."""

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
    """Run one command; return its exit status, 1 for an error or 2 for wrong usage."""
    words = sys.argv[1:] if arguments is None else arguments
    if sys.stdout is None:
        return print_error("standard output is closed")
    _escape_unencodable_output()
    try:
        if variable_value("_ARGCOMPLETE"):
            load_command("completion").complete(build_parser)
        if not words:
            build_parser(words).print_help(sys.stderr)
            return USAGE
        args = build_parser(words).parse_args(words)
        with _log_to_stderr(verbose=getattr(args, "verbose", False)):
            status = load_command(args.command).run(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _INTERRUPTED
    except ValueError as error:
        print_error(error)
        return USAGE
    except Exception as error:  # noqa: BLE001 - a traceback does not help users and may show secrets
        if is_broken_pipe(error):
            _discard_output()
            return FAILED
        return print_error(f"unexpected {type(error).__name__}: {sanitize(str(error))}")
    return int(status)


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


def build_parser(words: list[str]) -> argparse.ArgumentParser:
    """Return the parser for a command line.

    If the first word names a command, the parser has this command only, with its arguments.
    Otherwise it has all commands, without their arguments.
    """
    parser = _Parser(
        prog="imds-identity",
        description="Managed-identity tokens on Azure VMs, scale sets and Arc servers.",
        formatter_class=_HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", prog=parser.prog
    )
    chosen = [name for name in words[:1] if name in COMMANDS]
    for name in chosen or COMMANDS:
        subparser = commands.add_parser(
            name, help=COMMANDS[name], formatter_class=_HelpFormatter, allow_abbrev=False
        )
        if chosen:
            command = load_command(name)
            command.add_arguments(subparser)
            report = getattr(command, "report_usage_error", None)
            parser.report_error = subparser.report_error = report and partial(report, words)
    return parser


class _Parser(argparse.ArgumentParser):
    """A parser whose messages contain no control characters: an argument may be a file's name.

    A command can also report them in its own format.
    """

    report_error: Callable[[str], None] | None = None

    def error(self, message: str) -> NoReturn:
        """Report wrong usage, and exit with status 2."""
        if self.report_error:
            self.report_error(message)
        super().error(escape(message))


_NAME_COLUMN = 2 + 2 + max(map(len, COMMANDS))


class _HelpFormatter(argparse.HelpFormatter):
    """A formatter of fixed width: detecting that of the terminal would import six modules."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=100)
        self._action_max_length = _NAME_COLUMN  # argparse ignores the indentation of commands

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """Keep the line breaks of a list of examples."""
        return indent + (text if "\n" in text else "\n".join(self._split_lines(text, width)))

    def _split_lines(self, text: str, width: int) -> list[str]:
        """Do not break flags and URLs at hyphens, so that they can be copied."""
        import textwrap

        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)


def _escape_unencodable_output() -> None:
    """Escape characters that the terminal's encoding lacks; a cached name may contain any."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _discard_output() -> None:
    """Redirect standard output to null: otherwise Python reports a broken pipe at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
