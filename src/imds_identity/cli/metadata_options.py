"""Flags, exit statuses and output that the commands for IMDS metadata share."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from .._core.failure import escape
from .arguments import add_verbosity
from .output import (
    FAILED,
    REFUSED,
    UNAVAILABLE,
    failure_lines,
    failure_status,
    is_broken_pipe,
    print_error,
    print_lines,
    text_lines,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Sequence

    from ..metadata import MetadataClient, MetadataError


def add_service(parser: argparse.ArgumentParser) -> None:
    """Add the flags that select the metadata service and its API version."""
    parser.add_argument(
        "--endpoint", metavar="URL", help="the metadata service (default: this machine's)"
    )
    parser.add_argument(
        "--api-version",
        metavar="VERSION",
        help="the API version (default: the newest that this program and the service support)",
    )
    add_verbosity(parser)


def metadata_client(args: argparse.Namespace) -> MetadataClient:
    """Return the client that the flags of `add_service` configure."""
    from ..metadata import MetadataClient

    return MetadataClient(endpoint=args.endpoint, api_version=args.api_version)


def exit_status_of(args: argparse.Namespace, run: Callable[[], int]) -> int:
    """Return the exit status of ``run``; print its error, if it fails."""
    from ..metadata import MetadataError

    try:
        return run()
    except MetadataError as error:
        return print_lines(metadata_error_lines(error, verbose=args.verbose), _status_of(error))
    except OSError as error:
        if is_broken_pipe(error):
            raise
        return print_error(f"{error.filename}: {error.strerror}" if error.filename else error)


def metadata_error_lines(error: MetadataError, *, verbose: bool) -> list[str]:
    """Return what failed and what to do, as short lines."""
    if error._failure:
        return failure_lines(error._failure, verbose=verbose)
    return text_lines(str(error.message), verbose=verbose)


def _status_of(error: MetadataError) -> int:
    from ..metadata import (
        AttestedDocumentError,
        MetadataNotFoundError,
        MetadataUnavailableError,
    )

    if isinstance(error, MetadataUnavailableError):
        return UNAVAILABLE
    if error._failure:
        return failure_status(error._failure)
    is_refusal = isinstance(error, AttestedDocumentError | MetadataNotFoundError)
    return REFUSED if is_refusal else FAILED


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
