"""The command line, ``imds-identity``. Tokens go to standard output, messages to standard error."""

from __future__ import annotations

import argparse
import gc
import io
import os
import sys
from contextlib import contextmanager

from .._platform.environment import variable_value
from .._version import __version__
from .output import FAILED, is_broken_pipe, print_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

USAGE = 2
_INTERRUPTED = 130
_LOG_SECONDS = 1.0


class Command:
    """A subcommand, whose module has ``add_arguments(parser)`` and ``run(args) -> int``."""

    def __init__(self, load: Callable[[], ModuleType], help_: str) -> None:
        self.load = load
        self.help = help_


# Only the module of the chosen command is imported, which keeps `token` fast. Import statements,
# unlike names in strings, are found by PyInstaller and similar tools.


def _token() -> ModuleType:
    from . import token

    return token


def _exec() -> ModuleType:
    from . import exec as exec_

    return exec_


def _metadata() -> ModuleType:
    from . import metadata

    return metadata


def _attested() -> ModuleType:
    from . import attested

    return attested


def _events() -> ModuleType:
    from . import events

    return events


def _serve() -> ModuleType:
    from . import serve

    return serve


def _secret() -> ModuleType:
    from . import secret

    return secret


def _rest() -> ModuleType:
    from . import rest

    return rest


def _whoami() -> ModuleType:
    from . import whoami

    return whoami


def _cache() -> ModuleType:
    from . import cache

    return cache


def _doctor() -> ModuleType:
    from . import doctor

    return doctor


def _completion() -> ModuleType:
    from . import completion

    return completion


def _demo() -> ModuleType:
    from . import demo

    return demo


def _emulator() -> ModuleType:
    from ..emulator._cli import command

    return command


COMMANDS = {
    "token": Command(_token, "print a managed identity's token"),
    "exec": Command(_exec, "run a command with its own token endpoint"),
    "metadata": Command(_metadata, "print instance metadata"),
    "attested": Command(_attested, "fetch or verify a document that proves which VM this is"),
    "events": Command(_events, "print, follow or approve scheduled events"),
    "serve": Command(_serve, "serve tokens to other programs on this machine"),
    "secret": Command(_secret, "print a Key Vault secret"),
    "rest": Command(_rest, "call an Azure REST API, like az rest"),
    "whoami": Command(_whoami, "show which identity tokens are issued for"),
    "cache": Command(_cache, "show or clear the shared token cache"),
    "doctor": Command(_doctor, "diagnose managed identity problems"),
    "completion": Command(_completion, "print a shell completion script"),
    "demo": Command(_demo, "read a secret on an emulated VM and Arc server"),
    "emulator": Command(_emulator, "emulate a VM, an Arc server and other hosts"),
}


def program() -> int:
    """Run the command line of the process, which ends afterwards; return the exit status."""
    status = main()
    gc.freeze()  # shutdown then skips the search for cycles, a tenth of the time of `token`
    return status


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: replace those of the process.

    Returns:
        The exit status: 0, 1 for an error, 2 for wrong usage, or the command's own.
    """
    words = sys.argv[1:] if arguments is None else arguments
    if sys.stdout is None:
        return print_error("standard output is closed")
    _escape_unencodable_output()
    try:
        if variable_value("_ARGCOMPLETE"):
            _completion().complete(build_parser)
        if not words:
            build_parser(words).print_help(sys.stderr)
            return USAGE
        args = build_parser(words).parse_args(words)
        with _log_to_stderr(verbose=getattr(args, "verbose", False)):
            status = COMMANDS[args.command].load().run(args)
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
        from .._core.failure import sanitize

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
    parser = argparse.ArgumentParser(
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
        command = COMMANDS[name]
        subparser = commands.add_parser(
            name, help=command.help, formatter_class=_HelpFormatter, allow_abbrev=False
        )
        if chosen:
            command.load().add_arguments(subparser)
    return parser


_NAME_COLUMN = 2 + 2 + max(map(len, COMMANDS))


class _HelpFormatter(argparse.HelpFormatter):
    """A formatter of fixed width: detecting the terminal's would import half a dozen modules."""

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
    """Redirect standard output to null, or the interpreter reports a broken pipe at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
