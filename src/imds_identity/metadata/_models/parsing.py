"""Documents of the metadata service that came from anywhere: a file, a log, a support case."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from ..._core.failure import Failure, Malformed, sanitize

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .instance import Instance


_DEEPEST = 100
"""Levels. Documents have ten; Python's own functions fail at about a thousand."""
_NONCE_DIGITS = 10
_LONGEST_NONCE = 32
_NONCE = re.compile(rf"[0-9A-Za-z]{{1,{_LONGEST_NONCE}}}")


def parse_instance(document: Mapping[str, Any] | str | bytes) -> Instance:
    """Read an instance document.

    Args:
        document: the document of ``/metadata/instance`` of any api-version, or only its
            ``compute``; as JSON, or as ``json.loads`` gives it.

    Returns:
        The typed document, whose ``raw`` is ``document`` itself, losslessly.

    Raises:
        MalformedMetadataError: if it is no such document.
    """
    from ..errors import error_from
    from .instance import instance_from

    try:
        return instance_from(from_json(document) if isinstance(document, str | bytes) else document)
    except Failure as failure:
        raise error_from(failure) from None


def signature_in(answer: bytes) -> bytes:
    """The signature of an attested document, from the JSON that the service answers with.

    Raises:
        MalformedDocumentError: if there is none.
    """
    from ..errors import MalformedDocumentError

    try:
        said = from_json(answer)
    except Malformed:
        said = None
    signature = said.get("signature") if isinstance(said, dict) else None
    if not isinstance(signature, str) or not signature.isascii():
        raise MalformedDocumentError("This JSON is no answer of the service: it has no signature.")
    return signature.encode()


def element_at(document: Any, path: str) -> Any:
    """The element of an instance document that ``path`` leads to.

    Args:
        document: the document, as ``json.loads`` gives it.
        path: such as ``network/interface/0/macAddress``, or with ``/metadata/instance`` before it.

    Raises:
        MetadataNotFoundError: if there is none.
    """
    from ..errors import MetadataNotFoundError

    steps = [step for step in path.removeprefix("/metadata/").split("/") if step]
    for step in steps[1:] if steps[:1] == ["instance"] else steps:
        try:
            document = document[_index(step)] if isinstance(document, list) else document[step]
        except (LookupError, TypeError, ValueError):
            raise MetadataNotFoundError(
                f"The instance document has no {sanitize(path)!r}: there is no {sanitize(step)!r}. "
                "Names are case-sensitive, and newer than some api-versions."
            ) from None
    return document


def _index(step: str) -> int:
    """The number that ``step`` is, by which elements of lists are named: never from the end."""
    if not step.isascii() or not step.isdigit():
        raise ValueError("no number")
    return int(step)


def checked_nonce(nonce: str | None) -> str:
    """``nonce`` if it is one, or a new one.

    Raises:
        ValueError: if it is none.
    """
    if nonce is None:
        import secrets

        return "".join(secrets.choice("0123456789") for _ in range(_NONCE_DIGITS))
    if not isinstance(nonce, str) or not _NONCE.fullmatch(nonce):
        raise ValueError(f"nonce must be 1 to {_LONGEST_NONCE} letters and digits, not {nonce!r}")
    return nonce


def from_json(text: str | bytes) -> Any:
    """What ``text`` says in JSON.

    Raises:
        Malformed: if it is none, or nested without end.
    """
    try:
        # Files of Windows start with a mark, which json drops from bytes only.
        document = json.loads(text.removeprefix("\ufeff") if isinstance(text, str) else text)
    except (ValueError, RecursionError):
        raise Malformed("this is not JSON") from None
    level = [document]
    for _ in range(_DEEPEST):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return document
    raise Malformed(f"this JSON is nested deeper than {_DEEPEST} levels")


def _inside(outer: object) -> Iterable[object]:
    if isinstance(outer, dict):
        return outer.values()
    return outer if isinstance(outer, list) else ()
