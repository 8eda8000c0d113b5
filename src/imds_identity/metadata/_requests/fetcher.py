"""Runs the exchange of a category with the API version that was negotiated for it."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from ..errors import MetadataError, UnsupportedOnHostError
from .connection import EXCHANGE_SECONDS
from .endpoint import ServiceEndpoint
from .options import validated_params, validated_timeout

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from typing_extensions import Unpack

    from ..._http.exchange import Steps
    from .connection import MetadataConnection
    from .exchanges import Versioned
    from .options import RequestOptions

T = TypeVar("T")

_MAYBE_UNSUPPORTED = (400, 404, 405)
_ON_ARC = ("instance", "identity")


class Fetcher:
    """Fetches documents; ``is_stack_hub`` returns whether this machine is on Azure Stack Hub."""

    def __init__(
        self,
        connection: MetadataConnection,
        pinned_version: str | None,
        is_stack_hub: Callable[[], bool],
    ) -> None:
        base, host = connection.base, connection.host
        self.endpoint = ServiceEndpoint(base, random.random, pinned_version, host)
        self.versions: dict[str, str] = {}
        self._connection = connection
        self._is_stack_hub = is_stack_hub

    def run(
        self,
        exchange: Callable[[ServiceEndpoint], Steps[T]],
        more_seconds: float = 0.0,
        *,
        timeout: float | None = None,
        retry: bool = True,
        params: Mapping[str, str] | None = None,
    ) -> T:
        """Run ``exchange`` with the keywords of `RequestOptions`."""
        endpoint = replace(self.endpoint, retry=retry, params=validated_params(params))
        seconds = EXCHANGE_SECONDS + more_seconds
        return self._connection.run(exchange(endpoint), seconds, validated_timeout(timeout))

    def fetch(
        self,
        category: str,
        exchange: Callable[[ServiceEndpoint, str | None], Steps[Versioned[T]]],
        more_seconds: float = 0.0,
        **options: Unpack[RequestOptions],
    ) -> T:
        """Run ``exchange`` with the API version that was negotiated for its category."""
        if self._connection.is_arc and category not in _ON_ARC:
            raise UnsupportedOnHostError(f"{category} is not available on Azure Arc.")
        try:
            known = self.versions.get(category)
            document, version = self.run(
                lambda endpoint: exchange(endpoint, known), more_seconds, **options
            )
        except MetadataError as error:
            if category != "instance" and error.status_code in _MAYBE_UNSUPPORTED:
                self.raise_on_stack_hub(category)
            raise
        self.versions[category] = version
        return document

    def raise_on_stack_hub(self, category: str) -> None:
        """Raise UnsupportedOnHostError on Azure Stack Hub, which has the instance category only."""
        if self._is_stack_hub():
            raise UnsupportedOnHostError(f"{category} is not available on Azure Stack Hub.")
