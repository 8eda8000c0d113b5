"""``imds-identity attested``: a proof of which machine this is, and whether another's holds."""

from __future__ import annotations

import base64
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

from .arguments import add_output, filled
from .output import complain
from .service import add_service, client_of, reported, write_json, write_rows

if TYPE_CHECKING:
    import argparse

    from ..metadata import AttestedDocument

_LARGEST = 1024 * 1024
_RANDOM = ""
"""What ``--nonce`` says without a nonce."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's arguments to its parser."""
    parser.description = (
        "Fetches an attested document, verifies it and prints what it says; or verifies one that "
        "came from elsewhere."
    )
    parser.add_argument(
        "--nonce",
        nargs="?",
        const=_RANDOM,
        type=filled,
        metavar="NONCE",
        help="what the document is to repeat; random by default",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--verify", metavar="FILE", help="verify this document, in base64 or JSON; - reads it"
    )
    what.add_argument(
        "--signature",
        action="store_true",
        help="print the document alone, which is not verified here, for somebody else to verify",
    )
    parser.add_argument(
        "--at", metavar="TIME", type=_time, help="verify for this time (ISO 8601), not for now"
    )
    parser.add_argument("--ca-file", metavar="FILE", help="trust these certificates, and no others")
    parser.add_argument(
        "--intermediate",
        metavar="FILE",
        action="append",
        default=[],
        help="certificates that the chain may be built of; may be repeated",
    )
    parser.add_argument(
        "--cloud", metavar="NAME", help="the only cloud to accept, as azEnvironment"
    )
    parser.add_argument(
        "--offline", action="store_true", help="do not ask issuers for missing certificates"
    )
    add_output(parser, ("json", "text", "table"), "json")
    add_service(parser)


def run(args: argparse.Namespace) -> int:
    """Do what ``args`` say; the exit status.

    Raises:
        ValueError: if they make no sense.
    """
    if args.at is not None and args.verify is None:
        raise ValueError("--at is for a document that --verify names")
    if args.verify is not None and args.nonce == _RANDOM:
        raise ValueError("--nonce takes the nonce that the document must repeat, with --verify")
    args.nonce = args.nonce or None
    return reported(lambda: _signature(args) if args.signature else _proof(args))


def _signature(args: argparse.Namespace) -> int:
    signature = client_of(args).attested_signature(nonce=args.nonce)
    if args.output == "json":
        write_json({"encoding": "pkcs7", "signature": signature})
    else:
        sys.stdout.write(signature + "\n")
    return 0


def _proof(args: argparse.Namespace) -> int:
    try:
        document = _verified(args)
    except ModuleNotFoundError as error:
        return complain(error)
    said = _said(document)
    if args.output == "json":
        write_json(said)
    else:
        write_rows(
            ((name, value or "") for name, value in said.items()), table=args.output == "table"
        )
    return 0


def _verified(args: argparse.Namespace) -> AttestedDocument:
    settings: dict[str, Any] = {
        "nonce": args.nonce,
        "ca_file": args.ca_file,
        "intermediates": [_content(path) for path in args.intermediate],
        "cloud": args.cloud,
        "offline": args.offline,
    }
    if args.verify is None:
        return client_of(args).attested_document(**settings)
    from ..metadata import verify_attested_document

    document = verify_attested_document(_document(_content(args.verify)), at=args.at, **settings)
    if args.nonce is None:
        complain("the nonce was not compared, so this document may be an old one: give --nonce")
    return document


def _said(document: AttestedDocument) -> dict[str, str | None]:
    return {
        "vmId": document.vm_id,
        "subscriptionId": document.subscription_id,
        "nonce": document.nonce,
        "createdOn": document.created_on.isoformat(),
        "expiresOn": document.expires_on.isoformat(),
        "sku": document.sku,
        "licenseType": document.license_type,
        "planName": document.plan.name,
        "planProduct": document.plan.product,
        "planPublisher": document.plan.publisher,
        "cloud": document.cloud.name if document.cloud else None,
    }


def _content(path: str) -> bytes:
    if path == "-":
        return sys.stdin.buffer.read(_LARGEST)
    with open(path, "rb") as file:
        return file.read(_LARGEST)


def _document(content: bytes) -> bytes:
    """The document in base64, from the service's answer, from base64 or from DER."""
    from ..metadata._models.parsing import signature_in

    content = _without_mark(content)
    if not content.isascii():
        return base64.b64encode(content)
    return signature_in(content) if content.lstrip()[:1] == b"{" else content


def _without_mark(content: bytes) -> bytes:
    """Text as others write it, where a PowerShell has written it."""
    import codecs

    if content.startswith(codecs.BOM_UTF16_LE):
        return content.decode("utf-16", "replace").encode()
    return content.removeprefix(codecs.BOM_UTF8)


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        from argparse import ArgumentTypeError

        raise ArgumentTypeError(f"{text!r} is no time such as 2026-11-01T12:00:00Z") from None
