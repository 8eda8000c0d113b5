"""``imds-identity`` on the command line. Tokens go to standard output only, errors to the other."""

from __future__ import annotations

import argparse
import atexit
import io
import os
import sys
import threading
from contextlib import contextmanager

from .._platform.environment import variable_value
from .._platform.named_tuple import NamedTuple
from .._version import __version__
from .output import FAILED, complain, reader_is_gone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

USAGE = 2
_INTERRUPTED = 130
_LAST_WORDS_SECONDS = 1.0


class Command(NamedTuple):
    """A subcommand, whose module has ``add_arguments(parser)`` and ``run(args) -> int``."""

    module: str
    help: str


_COMMANDS = {
    "token": Command("imds_identity.cli.token", "print a managed identity's token"),
    "exec": Command("imds_identity.cli.exec", "run a command with a token endpoint of its own"),
    "metadata": Command("imds_identity.cli.metadata", "print what this machine is"),
    "attested": Command(
        "imds_identity.cli.attested", "prove which machine this is, or verify that"
    ),
    "events": Command("imds_identity.cli.events", "print, follow or approve scheduled events"),
    "serve": Command("imds_identity.cli.serve", "serve tokens to programs of this machine"),
    "secret": Command("imds_identity.cli.secret", "write a secret of a key vault"),
    "rest": Command("imds_identity.cli.rest", "call a service of Azure, as az rest does"),
    "whoami": Command("imds_identity.cli.whoami", "tell as whom tokens are given"),
    "cache": Command("imds_identity.cli.cache", "show or clear what processes share"),
    "doctor": Command("imds_identity.cli.doctor", "find out why there is no token"),
    "completion": Command(
        "imds_identity.cli.completion", "complete this program's commands in a shell"
    ),
    "manual": Command("imds_identity.cli.manual", "print the manual page"),
    "demo": Command("imds_identity.cli.demo", "fetch a secret as a VM and as an Arc server"),
    "emulator": Command(
        "imds_identity.emulator._cli.command", "emulate a VM, an Arc server and more"
    ),
}


def program() -> int:
    """What ``imds-identity`` runs: one command, after which the process ends.

    It ends at once where nobody asked to be called at its end, since taking an interpreter down
    takes longer than finding a token.

    Returns:
        The exit status.
    """
    status = main()
    if status == 0 and threading.active_count() == 1 and not atexit._ncallbacks():
        os._exit(status)
    return status


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: in place of those of the process.

    Returns:
        The exit status: 0, 1 for an error, 2 for usage.
    """
    given = sys.argv[1:] if arguments is None else arguments
    if sys.stdout is None:
        return complain("standard output is closed: there is nowhere to write to")
    _write_whatever_comes()
    try:
        if variable_value("_ARGCOMPLETE"):
            _module_of("completion").offer(_parser)
        if not given:
            _parser(given).print_help(sys.stderr)
            return USAGE
        args = _parser(given).parse_args(given)
        with _told(verbose=getattr(args, "verbose", False)):
            status = _module_of(args.command).run(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _INTERRUPTED
    except ValueError as error:
        complain(error)
        return USAGE
    except Exception as error:  # noqa: BLE001 - a traceback would be no help, and might tell secrets
        if reader_is_gone(error):
            _forget_stdout()
            return FAILED
        from .._core.failure import sanitize

        return complain(f"unexpected {type(error).__name__}: {sanitize(str(error))}")
    return int(status)


def _module_of(name: str) -> Any:
    __import__(_COMMANDS[name].module)  # importlib would load `warnings` at each start
    return sys.modules[_COMMANDS[name].module]


@contextmanager
def _told(*, verbose: bool) -> Iterator[None]:
    """Write to standard error what the package logs, if that is wanted."""
    if not verbose:
        yield
        return
    import logging

    from .._platform.threads import join_all

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("imds-identity: %(message)s"))
    logger = logging.getLogger("imds_identity")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        # What is told of a fetch is told when nobody waits for it any more.
        join_all(_LAST_WORDS_SECONDS)
        logger.removeHandler(handler)
        logger.setLevel(before)


def _parser(given: list[str]) -> argparse.ArgumentParser:
    """The parser of a command line, of whose commands only that which is given takes arguments."""
    parser = argparse.ArgumentParser(
        prog="imds-identity",
        description="Managed-identity tokens on Azure VMs, scale sets and Arc servers.",
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    parser.set_defaults(parser_of=_parser)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", prog=parser.prog
    )
    # Commands that are not meant cost no parser, and their modules stay unloaded: a token is wanted
    # fast. All of them are there where somebody has to be told what there is.
    meant = [name for name in given[:1] if name in _COMMANDS]
    for name in meant or _COMMANDS:
        command = _COMMANDS[name]
        subparser = commands.add_parser(
            name, help=command.help, formatter_class=_Formatter, allow_abbrev=False
        )
        if meant:
            _module_of(name).add_arguments(subparser)
    return parser


_NAME_COLUMN = 2 + 2 + max(map(len, _COMMANDS))


class _Formatter(argparse.HelpFormatter):
    """Of a fixed width: looking for the terminal's loads half a dozen modules at each start."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=100)
        self._action_max_length = _NAME_COLUMN  # argparse forgets how far commands are indented

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """Lines of commands stay lines."""
        return indent + (text if "\n" in text else "\n".join(self._split_lines(text, width)))

    def _split_lines(self, text: str, width: int) -> list[str]:
        """Lines to read and copy from: a flag or a URL is not cut at a hyphen."""
        import textwrap

        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)


def _write_whatever_comes() -> None:
    """A terminal may lack the letters of a name that somebody left in the cache."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _forget_stdout() -> None:
    """Whoever read is gone; without this the interpreter complains while it goes down."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
