"""Operations that a service goes on with after its answer.

https://learn.microsoft.com/azure/azure-resource-manager/management/async-operations
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._core.failure import sanitize
from .sending import Call, Problem, json_of, led_to, retry_after, words_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from http.client import HTTPResponse

    from .sending import Caller

_PAUSE = 10.0
_LONGEST_PAUSE = 60.0
_LONGEST = 24 * 3600.0
_SUCCEEDED = "succeeded"
_ENDED_BADLY = ("failed", "canceled", "cancelled")


class Operation:
    """What one call has begun.

    Args:
        caller: made it.
        call: the call.
        progress: is told where things stand, in a line.
    """

    def __init__(self, caller: Caller, call: Call, progress: Callable[[str], None]) -> None:
        self._caller = caller
        self._call = call
        self._progress = progress
        self._started = caller.clock.now()

    def wait(self, answer: HTTPResponse) -> HTTPResponse:
        """Wait until it is over.

        Args:
            answer: to the call.

        Returns:
            The answer that holds its outcome.

        Raises:
            Problem: if it fails, or leads to another host, or takes more than a day.
        """
        if answer.status not in (200, 201, 202):
            return answer
        names = ("Azure-AsyncOperation", "Operation-Location")
        status_url = next(filter(None, (self._link(answer, name) for name in names)), "")
        location = self._link(answer, "Location")
        try:
            if status_url:
                return self._by_status(answer, status_url, location)
            if location and answer.status == 202:
                return self._by_location(answer, location)
            if self._call.method in ("PUT", "PATCH"):
                return self._by_resource(answer)
            return answer
        finally:
            self._progress("")

    def _by_status(self, answer: HTTPResponse, url: str, location: str) -> HTTPResponse:
        while True:
            answer = self._after_a_pause(answer, url)
            said = json_of(answer)
            status = said.get("status") if isinstance(said, dict) else None
            if self._is_over(status, said):
                break
        if self._call.method in ("PUT", "PATCH"):
            return self._caller.call(Call("GET", self._call.url))
        return self._caller.call(Call("GET", location)) if location else answer

    def _by_location(self, answer: HTTPResponse, url: str) -> HTTPResponse:
        while answer.status == 202:
            answer = self._after_a_pause(answer, self._link(answer, "Location") or url)
        return answer

    def _by_resource(self, answer: HTTPResponse) -> HTTPResponse:
        while True:
            said = json_of(answer)
            properties = said.get("properties") if isinstance(said, dict) else None
            state = properties.get("provisioningState") if isinstance(properties, dict) else None
            if state is None or self._is_over(state, said):
                return self._caller.call(Call("GET", self._call.url))
            answer = self._after_a_pause(answer, self._call.url)

    def _is_over(self, status: object, said: object) -> bool:
        if not isinstance(status, str):
            raise Problem("the service does not say how the operation stands")
        if status.lower() in _ENDED_BADLY:
            error = said.get("error") if isinstance(said, dict) else None
            raise Problem(
                f"the operation has {sanitize(status.lower())}: {sanitize(str(error or said))}"
            )
        self._progress(f"{sanitize(status)} after {self._caller.clock.now() - self._started:.0f} s")
        return status.lower() == _SUCCEEDED

    def _after_a_pause(self, answer: HTTPResponse, url: str) -> HTTPResponse:
        if self._caller.clock.now() - self._started > _LONGEST:
            raise Problem("the operation is not over after a day")
        answer.close()
        said = retry_after(answer, self._caller.clock)
        self._caller.clock.sleep(min(_PAUSE if said is None else said, _LONGEST_PAUSE))
        answer = self._caller.call(Call("GET", url))
        if answer.status >= 400:
            raise Problem(words_of(answer))
        return answer

    def _link(self, answer: HTTPResponse, name: str) -> str:
        """The URL in a header field of ``answer``; empty if there is none."""
        given = answer.headers.get(name)
        return led_to(self._call, given) if given else ""
