"""The endpoint of a metadata service."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from ..._http.messages import url_with

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..._http.exchange import Random


class ServiceEndpoint(NamedTuple):
    """The endpoint of a metadata service, and how to request its documents.

    The API version is negotiated unless it is pinned.
    """

    base: str
    random: Random
    pinned_version: str | None = None
    host: str = ""  # the Host header, if it differs from the address in the URL
    retry: bool = True
    params: Mapping[str, str] = MappingProxyType({})  # added to each query

    @property
    def headers(self) -> dict[str, str]:
        """The headers of every request."""
        return {"Metadata": "true", **({"Host": self.host} if self.host else {})}

    def url(self, path: str, query: Mapping[str, str] | None = None) -> str:
        """Return the URL of a document with the parameters of ``query`` and of the caller."""
        params = {**self.params, **(query or {})}
        url = f"{self.base}/metadata/{path}"
        return url_with(url, params) if params else url
