"""The keywords of calls that send requests."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping

    from .._attestation.trust import CertificateInput
    from ..clouds import Cloud
    from ..errors import MetadataError

_NAME = re.compile(r"[A-Za-z0-9._~-]+")


class RequestOptions(TypedDict, total=False):
    """The keywords of each call that sends requests.

    Attributes:
        timeout: the maximum number of seconds for a document, with all retries and pauses.
        retry: whether to retry failed requests; True by default.
        params: more parameters for the query, such as ``{"extended": "true"}``.
    """

    timeout: float | None
    retry: bool
    params: Mapping[str, str] | None


class VerificationOptions(TypedDict, total=False):
    """The keywords of `verify_attested_document`, without ``nonce`` and ``at``."""

    ca_file: str | os.PathLike[str] | None
    roots: Iterable[CertificateInput]
    intermediates: Iterable[CertificateInput]
    cloud: Cloud | str | None
    offline: bool
    check_revocation: bool
    max_age: float | None
    proxy: str | None


class WatchOptions(TypedDict, total=False):
    """The keywords of `Watcher`."""

    every_machine: bool
    names: Iterable[str]
    state_file: str | os.PathLike[str] | None
    on_failure: Callable[[MetadataError], object] | None


class InstanceOptions(RequestOptions, total=False):
    """The keywords of each call that uses the cached instance document.

    Attributes:
        refresh: whether to fetch the document again.
        max_age: the maximum age of the cached document in seconds; any age by default.
    """

    refresh: bool
    max_age: float | None


def validated_timeout(timeout: float | None) -> float | None:
    """Return ``timeout`` if it is a positive number of seconds, or None."""
    if timeout is not None and not 0 < timeout < math.inf:
        raise ValueError(f"timeout must be a positive number of seconds, not {timeout!r}")
    return timeout


def validated_params(params: Mapping[str, str] | None) -> dict[str, str]:
    """Return ``params`` if they can be added to a query."""
    found = dict(params or {})
    for name, value in found.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name) or not isinstance(value, str):
            raise ValueError(f"params must map names to strings, not {name!r} to {value!r}")
        if name == "api-version":
            raise ValueError("params cannot contain api-version: pass api_version to the client")
    return found
