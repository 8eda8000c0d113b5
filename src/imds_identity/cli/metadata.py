"""``imds-identity metadata``: what this machine is, and where it runs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from .arguments import add_output
from .service import add_service, client_of, reported, shown, write_json, write_rows

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from ..metadata import MetadataClient

_AUTOMATIC = "auto"
_FORMATS = (_AUTOMATIC, "json", "text", "table")
_OTHERS: dict[str, Callable[[MetadataClient], Any]] = {
    "versions": lambda client: list(client.versions()),
    "loadbalancer": lambda client: dict(client.load_balancer().raw),
    "identity/info": lambda client: {"tenantId": client.identity_info()},
    "public-ips": lambda client: list(client.public_ips()),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's arguments to its parser."""
    parser.description = "Prints the instance document, or an element of it."
    parser.add_argument(
        "path",
        nargs="?",
        default="",
        metavar="PATH",
        help="such as compute/vmId or network/interface/0/macAddress, as the service names them; "
        f"or one of {', '.join(_OTHERS)}; all of the instance document by default",
    )
    add_output(
        parser,
        _FORMATS,
        _AUTOMATIC,
        "json: as the service says it; text: the value alone, or a line for each with its path, a "
        "tab between; table: the same for people; auto (default): text for a value, else json",
    )
    parser.add_argument(
        "--wait",
        type=float,
        metavar="SECONDS",
        help="wait so long for a service that is slow to start",
    )
    add_service(parser)


def run(args: argparse.Namespace) -> int:
    """Print what ``args`` ask for; the exit status.

    Raises:
        ValueError: if they ask for nonsense.
    """
    if args.wait is not None and not args.wait >= 0:
        raise ValueError(f"--wait takes seconds, not {args.wait}")
    client = client_of(args)
    return reported(lambda: _print(client, args))


def _print(client: MetadataClient, args: argparse.Namespace) -> int:
    if args.wait is not None:
        client.require(args.wait)
    path = args.path.strip("/").removeprefix("metadata/").strip("/")
    other = _OTHERS.get(path)
    _write(other(client) if other else client.get(path), args.output)
    return 0


def _write(value: Any, output: str) -> None:
    is_value = not isinstance(value, dict | list)
    if output == "json" or (output == _AUTOMATIC and not is_value):
        write_json(value)
    elif is_value:
        # To a file or a pipe it goes as it is; to a terminal it is not to be a command.
        text = _text(value)
        sys.stdout.write((shown(text) if sys.stdout.isatty() else text) + "\n")
    elif isinstance(value, list) and not any(isinstance(each, dict | list) for each in value):
        write_rows([[_text(each)] for each in value], table=output == "table")
    else:
        write_rows(_rows(value), table=output == "table")


def _rows(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if not isinstance(value, dict | list):
        yield path.lstrip("/"), _text(value)
        return
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for name, inner in items:
        yield from _rows(inner, f"{path}/{name}")


def _text(value: Any) -> str:
    """A value as the service writes it in text."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
