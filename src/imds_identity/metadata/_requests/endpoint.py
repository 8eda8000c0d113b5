"""The endpoint of a metadata service."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..._http.messages import url_with

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..._http.exchange import Random


@dataclass(frozen=True, slots=True)
class ServiceEndpoint:
    """The endpoint of a metadata service, and how to request its documents.

    The API version is negotiated unless it is pinned. It is not a tuple, because error trackers
    print the items of tuples, and the URL may be a secret.
    """

    base: str = field(repr=False)
    random: Random
    pinned_version: str | None = None
    host: str = ""  # the Host header, if it differs from the address in the URL
    retry: bool = True
    params: Mapping[str, str] = field(default_factory=dict)  # added to each query

    @property
    def headers(self) -> dict[str, str]:
        """The headers of every request."""
        return {"Metadata": "true", **({"Host": self.host} if self.host else {})}

    def url(self, path: str, query: Mapping[str, str] | None = None) -> str:
        """Return the URL of a document with the parameters of ``query`` and of the caller."""
        params = {**self.params, **(query or {})}
        url = f"{self.base}/metadata/{path}"
        return url_with(url, params) if params else url
