"""``imds-identity metadata``: print instance metadata."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from .._core.failure import escape
from .arguments import add_output
from .metadata_options import add_service, exit_status_of, metadata_client, write_rows
from .output import print_error, to_json

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from ..metadata import MetadataClient

_AUTOMATIC = "auto"
_SECRETS = ("customData", "userData")
_OTHER_DOCUMENTS: dict[str, Callable[[MetadataClient], object]] = {
    "versions": lambda client: list(client.versions()),
    "loadbalancer": lambda client: dict(client.load_balancer().raw),
    "identity/info": lambda client: {"tenantId": client.identity_info()},
    "public-ips": lambda client: list(client.public_ips()),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.description = "Prints the instance document, or an element of it."
    parser.add_argument(
        "path",
        nargs="?",
        default="",
        metavar="PATH",
        help="a path of the instance document, such as compute/vmId or "
        f"network/interface/0/macAddress; or one of {', '.join(_OTHER_DOCUMENTS)} (default: the "
        "whole instance document)",
    )
    add_output(
        parser,
        (_AUTOMATIC, "json", "text", "table"),
        _AUTOMATIC,
        "json: as returned by the service; text: the value only, or a line with path, tab and "
        "value for each; table: aligned columns; auto (default): text for a value, otherwise json",
    )
    parser.add_argument(
        "--wait",
        type=float,
        metavar="SECONDS",
        help="wait up to this long for the service to start",
    )
    parser.add_argument(
        "--show",
        action="store_true",
        help="print customData and userData, which may contain secrets, too",
    )
    add_service(parser)


def run(args: argparse.Namespace) -> int:
    """Print metadata; return the exit status."""
    if args.wait is not None and not args.wait >= 0:
        raise ValueError(f"--wait takes a number of seconds, not {args.wait}")
    client = metadata_client(args)
    return exit_status_of(args, lambda: _print(client, args))


def _print(client: MetadataClient, args: argparse.Namespace) -> int:
    if args.wait is not None:
        client.require(args.wait)
    path = args.path.strip("/").removeprefix("metadata/").strip("/")
    if not args.show and path.rpartition("/")[2] in _SECRETS:
        return print_error(f"{path} may contain a secret: pass --show to print it")
    other_document = _OTHER_DOCUMENTS.get(path)
    document = other_document(client) if other_document else client.get(path)
    _write(document if args.show else _without_secrets(document), args.output)
    return 0


def _without_secrets(document: object) -> object:
    """Return an instance document, or a part of it, without the fields of `_SECRETS`."""
    if not isinstance(document, dict):
        return document
    return {
        name: _without_secrets(value) for name, value in document.items() if name not in _SECRETS
    }


def _write(value: object, output: str) -> None:
    is_scalar = not isinstance(value, dict | list)
    if output == "json" or (output == _AUTOMATIC and not is_scalar):
        print(to_json(value))
    elif is_scalar:
        # A terminal could execute escape sequences; a file or a pipe gets the exact value.
        text = _text(value)
        print(escape(text) if sys.stdout.isatty() else text)
    elif isinstance(value, list) and not any(isinstance(each, dict | list) for each in value):
        write_rows([[_text(each)] for each in value], table=output == "table")
    else:
        write_rows(_rows(value), table=output == "table")


def _rows(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    if not isinstance(value, dict | list):
        yield path.lstrip("/"), _text(value)
        return
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for name, inner in items:
        yield from _rows(inner, f"{path}/{name}")


def _text(value: object) -> str:
    """Return a scalar as the service formats it in text."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
