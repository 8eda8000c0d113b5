"""Long-running operations.

https://learn.microsoft.com/azure/azure-resource-manager/management/async-operations
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._core.failure import sanitize
from .client import ApiError, error_text, json_of, retry_after, same_origin_url
from .sender import ApiRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from .client import ApiClient
    from .sender import ApiResponse

_DEFAULT_PAUSE = 10.0
_LONGEST_PAUSE = 60.0
_TIMEOUT_SECONDS = 24 * 3600.0
_SUCCEEDED = "succeeded"
_FAILED = ("failed", "canceled", "cancelled")


class LongRunningOperation:
    """The operation that ``request`` has started; ``progress`` displays its state."""

    def __init__(
        self, client: ApiClient, request: ApiRequest, progress: Callable[[str], None]
    ) -> None:
        self._client = client
        self._request = request
        self._progress = progress
        self._started = client.clock.now()

    def wait(self, response: ApiResponse) -> ApiResponse:
        """Wait until the operation ends; return the response with its result."""
        if response.status not in (200, 201, 202):
            return response
        names = ("Azure-AsyncOperation", "Operation-Location")
        status_url = next(filter(None, (self._link(response, name) for name in names)), "")
        location = self._link(response, "Location")
        try:
            if status_url:
                return self._poll_status(response, status_url, location)
            if location and response.status == 202:
                return self._poll_location(response, location)
            if self._request.method in ("PUT", "PATCH"):
                return self._poll_resource(response)
            return response
        finally:
            self._progress("")

    def _poll_status(self, response: ApiResponse, url: str, location: str) -> ApiResponse:
        while True:
            response = self._poll(response, url)
            body = json_of(response)
            status = body.get("status") if isinstance(body, dict) else None
            if self._has_succeeded(status, body):
                break
        if self._request.method in ("PUT", "PATCH"):
            return self._client.request(ApiRequest("GET", self._request.url))
        return self._client.request(ApiRequest("GET", location)) if location else response

    def _poll_location(self, response: ApiResponse, url: str) -> ApiResponse:
        while response.status == 202:
            response = self._poll(response, self._link(response, "Location") or url)
        return response

    def _poll_resource(self, response: ApiResponse) -> ApiResponse:
        while True:
            body = json_of(response)
            properties = body.get("properties") if isinstance(body, dict) else None
            state = properties.get("provisioningState") if isinstance(properties, dict) else None
            if state is None or self._has_succeeded(state, body):
                return self._client.request(ApiRequest("GET", self._request.url))
            response = self._poll(response, self._request.url)

    def _has_succeeded(self, status: object, body: object) -> bool:
        if not isinstance(status, str):
            raise ApiError("the response lacks the operation's status")
        if status.lower() in _FAILED:
            error = body.get("error") if isinstance(body, dict) else None
            raise ApiError(
                f"the operation has {sanitize(status.lower())}: {sanitize(str(error or body))}"
            )
        self._progress(f"{sanitize(status)} after {self._client.clock.now() - self._started:.0f} s")
        return status.lower() == _SUCCEEDED

    def _poll(self, response: ApiResponse, url: str) -> ApiResponse:
        """Wait as long as ``response`` requires, and send the next request."""
        clock = self._client.clock
        if clock.now() - self._started > _TIMEOUT_SECONDS:
            raise ApiError("the operation has not ended within a day")
        seconds = retry_after(response, clock)
        clock.sleep(min(_DEFAULT_PAUSE if seconds is None else seconds, _LONGEST_PAUSE))
        response = self._client.request(ApiRequest("GET", url))
        if response.status >= 400:
            raise ApiError(error_text(response))
        return response

    def _link(self, response: ApiResponse, name: str) -> str:
        """Return the URL in a header field of ``response``; empty if there is none."""
        value = response.headers.get(name)
        return same_origin_url(self._request, value) if value else ""
