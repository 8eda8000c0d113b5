"""What the commands for instance metadata, attested documents and events have in common."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from .output import FAILED, complain, reader_is_gone

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Sequence

    from ..metadata import MetadataClient

UNAVAILABLE = 3
NO_SUCH_ELEMENT = 4
NOT_PROVEN = 5

EXIT_STATUS = (
    "Exit status: 0 if all went well, 1 for an error, 2 for wrong usage, 3 where there is no such "
    "service, 4 if it has no such element, 5 if an attested document is not proven."
)


def add_service(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say which service is asked, and how."""
    parser.epilog = EXIT_STATUS
    parser.add_argument(
        "--endpoint", metavar="URL", help="the service to ask (default: this machine's)"
    )
    parser.add_argument(
        "--api-version",
        metavar="VERSION",
        help="the version to ask in (default: the newest that both sides know)",
    )


def client_of(args: argparse.Namespace) -> MetadataClient:
    """The client that the flags of `add_service` ask for.

    Raises:
        ValueError: for a flag that is not understood.
    """
    from ..metadata import MetadataClient

    return MetadataClient(endpoint=args.endpoint, api_version=args.api_version)


def reported(run: Callable[[], int]) -> int:
    """The exit status of ``run``, or of the error that it ended with, which the user is told."""
    from ..metadata import (
        AttestedDocumentError,
        MetadataError,
        MetadataNotFoundError,
        MetadataUnavailableError,
    )

    try:
        return run()
    except MetadataError as error:
        complain(error)
        if isinstance(error, MetadataUnavailableError):
            return UNAVAILABLE
        if isinstance(error, MetadataNotFoundError):
            return NO_SUCH_ELEMENT
        return NOT_PROVEN if isinstance(error, AttestedDocumentError) else FAILED
    except OSError as error:
        if reader_is_gone(error):
            raise
        return complain(f"{error.filename}: {error.strerror}" if error.filename else error)


def write_json(value: Any) -> None:
    """Write ``value`` as JSON that people can read, too."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=True) + "\n")


def write_rows(rows: Iterable[Sequence[str]], *, table: bool) -> None:
    """Write ``rows``: for shells with a tab between fields, or for people as a table."""
    lines = [[shown(field) for field in row] for row in rows]
    if not table:
        sys.stdout.writelines("\t".join(row) + "\n" for row in lines)
        return
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for row in lines:
        cells = (field.ljust(width) for field, width in zip(row, widths, strict=True))
        sys.stdout.write("  ".join(cells).rstrip() + "\n")


def shown(text: str) -> str:
    """``text`` in one line, with what is not to be printed spelled as Python spells it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
