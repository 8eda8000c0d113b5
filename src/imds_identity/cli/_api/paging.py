"""Lists that a service gives in pages.

https://learn.microsoft.com/rest/api/azure/#async-operations-throttling-and-paging
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .sending import Problem, json_of, led_to, words_of

if TYPE_CHECKING:
    from .sending import Call, Caller

_LINKS = ("nextLink", "@odata.nextLink", "odata.nextLink")


def all_pages(caller: Caller, call: Call) -> list[Any]:
    """The values of all pages.

    Raises:
        Problem: if one cannot be had, or the next is on another host.
    """
    values: list[Any] = []
    seen: set[str] = set()
    while call.url not in seen:
        seen.add(call.url)
        page = _page(caller, call)
        values += page["value"]
        link = next((page[name] for name in _LINKS if isinstance(page.get(name), str)), "")
        if not link:
            return values
        call = call.at(led_to(call, link))
    raise Problem("the pages lead back to one that was there already")


def _page(caller: Caller, call: Call) -> dict[str, Any]:
    with caller.call(call) as answer:
        if answer.status != 200:
            raise Problem(words_of(answer))
        page = json_of(answer)
    if not isinstance(page, dict) or not isinstance(page.get("value"), list):
        raise Problem("the answer is no list of values: leave out --paginate")
    return page
