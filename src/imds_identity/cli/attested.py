"""``imds-identity attested``: fetch or verify an attested document."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import TYPE_CHECKING, Any

from .arguments import add_output, not_empty
from .metadata_options import add_service, exit_status_of, metadata_client, write_rows
from .output import print_error, read_input, to_json

if TYPE_CHECKING:
    import argparse

    from ..metadata import AttestedDocument

_MAX_BYTES = 1024 * 1024
_RANDOM = ""
"""The value of ``--nonce`` without an argument."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.description = (
        "Fetches this VM's attested document, verifies it and prints its content; or verifies the "
        "document of another VM."
    )
    parser.add_argument(
        "--nonce",
        nargs="?",
        const=_RANDOM,
        type=not_empty,
        metavar="NONCE",
        help="the nonce that the document must contain (default: random)",
    )
    action = parser.add_mutually_exclusive_group()
    action.add_argument(
        "--verify",
        metavar="FILE",
        help="verify this document, in base64, JSON or DER; - reads standard input",
    )
    action.add_argument(
        "--signature",
        action="store_true",
        help="print the signed document without verifying it, so that another machine can",
    )
    parser.add_argument(
        "--at", metavar="TIME", type=_time, help="verify for this time (ISO 8601; default: now)"
    )
    parser.add_argument("--ca-file", metavar="FILE", help="trust only these root certificates")
    parser.add_argument(
        "--root",
        metavar="FILE",
        action="append",
        default=[],
        help="certificates to trust in addition to the usual roots; may be repeated",
    )
    parser.add_argument(
        "--intermediate",
        metavar="FILE",
        action="append",
        default=[],
        help="additional intermediate certificates; may be repeated",
    )
    parser.add_argument(
        "--cloud", metavar="NAME", help="accept this cloud only, such as AzureUSGovernmentCloud"
    )
    parser.add_argument(
        "--offline",
        action="store_true",
        help="do not download missing certificates from their issuers",
    )
    parser.add_argument(
        "--check-revocation",
        action="store_true",
        help="download revocation lists from the issuers, and refuse revoked certificates",
    )
    parser.add_argument(
        "--max-age",
        type=float,
        metavar="SECONDS",
        help="refuse a document that was signed earlier (default: the six hours of its validity)",
    )
    parser.add_argument(
        "--proxy", metavar="URL", help="an http proxy for downloads, such as http://proxy:3128"
    )
    add_output(parser, ("json", "text", "table"), "json")
    add_service(parser)


def run(args: argparse.Namespace) -> int:
    """Fetch or verify a document; return the exit status."""
    if args.at is not None and args.verify is None:
        raise ValueError("--at requires --verify")
    if args.verify is not None and args.nonce == _RANDOM:
        raise ValueError("with --verify, --nonce requires the nonce that the document must contain")
    args.nonce = args.nonce or None
    return exit_status_of(args, lambda: _signature(args) if args.signature else _document(args))


def _signature(args: argparse.Namespace) -> int:
    signature = metadata_client(args).attested_signature(nonce=args.nonce)
    if args.output == "json":
        print(to_json({"encoding": "pkcs7", "signature": signature}))
    else:
        print(signature)
    return 0


def _document(args: argparse.Namespace) -> int:
    try:
        document = _verified_document(args)
    except ModuleNotFoundError as error:
        return print_error(error)
    fields = _fields(document)
    if args.output == "json":
        print(to_json(fields))
    else:
        write_rows(
            ((name, value or "") for name, value in fields.items()), table=args.output == "table"
        )
    return 0


def _verified_document(args: argparse.Namespace) -> AttestedDocument:
    options: dict[str, Any] = {
        "nonce": args.nonce,
        "ca_file": args.ca_file,
        "roots": [_read(path) for path in args.root],
        "intermediates": [_read(path) for path in args.intermediate],
        "cloud": args.cloud,
        "offline": args.offline,
        "check_revocation": args.check_revocation,
        "max_age": args.max_age,
        "proxy": args.proxy,
    }
    if args.verify is None:
        return metadata_client(args).attested_document(**options)
    from ..metadata import verify_attested_document

    document = verify_attested_document(_base64_document(_read(args.verify)), at=args.at, **options)
    if args.nonce is None:
        print_error("the nonce was not compared, so this may be an old document; pass --nonce")
    return document


def _fields(document: AttestedDocument) -> dict[str, str | None]:
    return {
        "vmId": document.vm_id,
        "subscriptionId": document.subscription_id,
        "nonce": document.nonce,
        "createdOn": document.created_on.isoformat() if document.created_on else None,
        "expiresOn": document.expires_on.isoformat() if document.expires_on else None,
        "sku": document.sku,
        "licenseType": document.license_type,
        "planName": document.plan.name,
        "planProduct": document.plan.product,
        "planPublisher": document.plan.publisher,
        "cloud": document.cloud.name if document.cloud else None,
    }


def _read(path: str) -> bytes:
    if path == "-":
        return read_input(_MAX_BYTES)
    with open(path, "rb") as file:
        return file.read(_MAX_BYTES)


def _base64_document(content: bytes) -> bytes:
    """Return the document in base64, from the service's JSON, base64 or DER."""
    from ..metadata._models.parsing import signature_from_response

    content = _decoded(content)
    if not content.isascii():
        return base64.b64encode(content)
    return signature_from_response(content) if content.lstrip()[:1] == b"{" else content


def _decoded(content: bytes) -> bytes:
    """Decode UTF-8 or UTF-16, without the byte order mark that PowerShell writes."""
    import codecs

    if content.startswith(codecs.BOM_UTF16_LE):
        return content.decode("utf-16", "replace").encode()
    return content.removeprefix(codecs.BOM_UTF8)


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        from argparse import ArgumentTypeError

        raise ArgumentTypeError(f"{text!r} is not a time such as 2026-11-01T12:00:00Z") from None
