"""Documents of the metadata service that came from anywhere: a file, a log, a support case."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .._core.failure import Failure, Malformed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .instance import Instance


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
    from .errors import error_from
    from .instance import instance_from

    try:
        return instance_from(from_json(document) if isinstance(document, str | bytes) else document)
    except Failure as failure:
        raise error_from(failure) from None


def from_json(text: str | bytes) -> Any:
    """What ``text`` says in JSON.

    Raises:
        Malformed: if it is none, or nested without end.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise Malformed("this is not JSON") from None
