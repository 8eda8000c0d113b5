"""Lists that a service returns in pages.

https://learn.microsoft.com/rest/api/azure/#async-operations-throttling-and-paging
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .client import ApiError, error_text, json_of, same_origin_url

if TYPE_CHECKING:
    from .client import ApiClient, ApiRequest

_LINKS = ("nextLink", "@odata.nextLink", "odata.nextLink")


def all_pages(client: ApiClient, request: ApiRequest) -> list[object]:
    """Return the values of all pages."""
    values: list[object] = []
    seen: set[str] = set()
    while request.url not in seen:
        seen.add(request.url)
        page, link = _page(client, request)
        values += page
        if not link:
            return values
        request = request.with_url(same_origin_url(request, link))
    raise ApiError("the pages form a loop: a link leads to an earlier page")


def _page(client: ApiClient, request: ApiRequest) -> tuple[list[object], str]:
    """Return the values of a page and the link to the next one, which is empty on the last page."""
    with client.request(request) as response:
        if response.status != 200:
            raise ApiError(error_text(response))
        page = json_of(response)
    if not isinstance(page, dict) or not isinstance(page.get("value"), list):
        raise ApiError("the response is not a list of values: omit --paginate")
    return page["value"], next((page[k] for k in _LINKS if isinstance(page.get(k), str)), "")
