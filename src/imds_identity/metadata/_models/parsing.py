"""Parsing of documents and parameters of the metadata service."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from ..._core.failure import Failure, Malformed, sanitize

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .instance import Instance

_MAX_DEPTH = 100  # levels; documents have ten, and Python's functions fail at about a thousand
_NONCE_DIGITS = 10
_MAX_NONCE = 64  # the service decides; documentation names 10 digits, OpenAPI 32 characters
_NONCE = re.compile(rf"[ -~]{{1,{_MAX_NONCE}}}")


def parse_instance(document: Mapping[str, object] | str | bytes) -> Instance:
    """Parse an instance document from any source, such as a file or a support case.

    Args:
        document: the document of ``/metadata/instance`` of any API version, or only its
            ``compute`` part: JSON text, or the result of ``json.loads``.

    Returns:
        The typed document; its ``raw`` is ``document`` without loss.

    Raises:
        MalformedMetadataError: if it is not an instance document.
    """
    from ..errors import error_from
    from .instance import instance_from_json

    try:
        parsed = from_json(document) if isinstance(document, str | bytes) else document
        return instance_from_json(parsed)
    except Failure as failure:
        raise error_from(failure) from None


def signature_from_response(body: bytes) -> bytes:
    """Return the ``signature`` of the service's JSON response with an attested document."""
    from ..errors import MalformedDocumentError

    try:
        document = from_json(body)
    except Malformed:
        document = None
    signature = document.get("signature") if isinstance(document, dict) else None
    if not isinstance(signature, str) or not signature.isascii():
        raise MalformedDocumentError(
            "This JSON is not a response of the metadata service: it has no signature."
        )
    return signature.encode()


def element_at(document: Any, path: str) -> Any:
    """Return the element at a path such as ``network/interface/0/macAddress``."""
    from ..errors import MetadataNotFoundError

    steps = [step for step in path.removeprefix("/metadata/").split("/") if step]
    for step in steps[1:] if steps[:1] == ["instance"] else steps:
        try:
            is_index = isinstance(document, list) and step.isascii() and step.isdigit()
            document = document[int(step) if is_index else step]
        except (LookupError, TypeError, ValueError):  # ValueError: too many digits
            raise MetadataNotFoundError(
                f"The instance document has no {sanitize(path)!r}: there is no {sanitize(step)!r}. "
                "Names are case-sensitive, and some exist in newer API versions only."
            ) from None
    return document


def validated_nonce(nonce: str | None) -> str:
    """Return ``nonce`` if it is valid, or a random one if it is None."""
    if nonce is None:
        import secrets

        return "".join(secrets.choice("0123456789") for _ in range(_NONCE_DIGITS))
    if not isinstance(nonce, str) or not _NONCE.fullmatch(nonce):
        raise ValueError(
            f"nonce must be 1 to {_MAX_NONCE} printable ASCII characters, not {nonce!r}"
        )
    return nonce


def from_json(text: str | bytes) -> object:
    """Parse JSON."""
    if isinstance(text, str):
        text = text.removeprefix("\ufeff")  # of files from Windows; json removes it from bytes only
    try:
        document: object = json.loads(text)
    except (ValueError, RecursionError):
        raise Malformed("this is not JSON") from None
    level = [document]
    for _ in range(_MAX_DEPTH):
        level = [inner for outer in level for inner in _children(outer)]
        if not level:
            return document
    raise Malformed(f"this JSON is nested deeper than {_MAX_DEPTH} levels")


def _children(outer: object) -> Iterable[object]:
    if isinstance(outer, dict):
        return outer.values()
    return outer if isinstance(outer, list) else ()
