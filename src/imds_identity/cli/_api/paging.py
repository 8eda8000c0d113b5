"""Lists that a service returns in pages.

https://learn.microsoft.com/rest/api/azure/#async-operations-throttling-and-paging
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .client import ApiError, error_text, json_of, same_origin_url

if TYPE_CHECKING:
    from .client import ApiClient
    from .sender import ApiRequest, ApiResponse

_MAX_PAGES = 10_000
_MAX_BYTES = 256 * 1024 * 1024
_LINKS = ("nextLink", "@odata.nextLink", "odata.nextLink")


def all_pages(client: ApiClient, request: ApiRequest) -> list[object]:
    """Return the values of all pages."""
    values: list[object] = []
    seen: set[str] = set()
    size = 0
    while request.url not in seen:
        seen.add(request.url)
        response = client.request(request)
        page, link = _page(response)
        values += page
        size += len(response.body)
        if len(seen) > _MAX_PAGES or size > _MAX_BYTES:
            raise ApiError(f"the list has more than {_MAX_PAGES} pages or {_MAX_BYTES} bytes")
        if not link:
            return values
        request = request.with_url(same_origin_url(request, link))
    raise ApiError("the pages form a loop: a link leads to an earlier page")


def _page(response: ApiResponse) -> tuple[list[object], str]:
    """Return the values of a page and the link to the next one, which is empty on the last page."""
    if response.status != 200:
        raise ApiError(error_text(response))
    page = json_of(response)
    if not isinstance(page, dict) or not isinstance(page.get("value"), list):
        raise ApiError("the response is not a list of values: omit --paginate")
    return page["value"], next((page[k] for k in _LINKS if isinstance(page.get(k), str)), "")
