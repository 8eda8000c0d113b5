"""Flags, exit statuses and output that the commands for IMDS metadata share."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from .._core.failure import escape
from .output import FAILED, is_broken_pipe, print_error

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Sequence

    from ..metadata import MetadataClient

UNAVAILABLE = 3
NOT_FOUND = 4
NOT_VERIFIED = 5


def add_service(parser: argparse.ArgumentParser) -> None:
    """Add the flags that select the metadata service and its API version."""
    parser.epilog = (
        "Exit status: 0 for success, 1 for an error, 2 for wrong usage, 3 if the service is not "
        "available, 4 if it has no such element, 5 if an attested document cannot be verified."
    )
    parser.add_argument(
        "--endpoint", metavar="URL", help="the metadata service (default: this machine's)"
    )
    parser.add_argument(
        "--api-version",
        metavar="VERSION",
        help="the API version (default: the newest that this program and the service support)",
    )


def metadata_client(args: argparse.Namespace) -> MetadataClient:
    """Return the client that the flags of `add_service` configure."""
    from ..metadata import MetadataClient

    return MetadataClient(endpoint=args.endpoint, api_version=args.api_version)


def exit_status_of(run: Callable[[], int]) -> int:
    """Return the exit status of ``run``; print its error, if it fails."""
    from ..metadata import (
        AttestedDocumentError,
        MetadataError,
        MetadataNotFoundError,
        MetadataUnavailableError,
    )

    try:
        return run()
    except MetadataError as error:
        print_error(error)
        if isinstance(error, MetadataUnavailableError):
            return UNAVAILABLE
        if isinstance(error, MetadataNotFoundError):
            return NOT_FOUND
        return NOT_VERIFIED if isinstance(error, AttestedDocumentError) else FAILED
    except OSError as error:
        if is_broken_pipe(error):
            raise
        return print_error(f"{error.filename}: {error.strerror}" if error.filename else error)


def write_rows(rows: Iterable[Sequence[str]], *, table: bool) -> None:
    """Print ``rows`` as aligned columns if ``table``, else with tabs between the fields."""
    lines = [[escape(field) for field in row] for row in rows]
    if not table:
        sys.stdout.writelines("\t".join(row) + "\n" for row in lines)
        return
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for row in lines:
        cells = (field.ljust(width) for field, width in zip(row, widths, strict=True))
        sys.stdout.write("  ".join(cells).rstrip() + "\n")
