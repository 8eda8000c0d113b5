"""Requests to Azure's REST APIs. A token is sent only to the host it was requested for."""

from __future__ import annotations

import json
from http.client import HTTPException
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.parse import urljoin

from ..._azure_core.bearer import claims_of
from ..._core.failure import Failure, sanitize
from ..._core.scope import resource_of
from ..._http.exchange import TransportError
from ..._http.messages import Response
from ..._platform.clock import SYSTEM_CLOCK
from ..arguments import print_failure, token_client
from ..output import print_lines, text_lines
from .hosts import origin_url
from .sender import Sender

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from ..._platform.clock import Clock
    from .sender import ApiRequest, ApiResponse

_MAX_ATTEMPTS = 6
_FIRST_PAUSE = 2.0
_LONGEST_RETRY_AFTER = 300.0
_MAX_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_SAFE_METHODS = ("GET", "HEAD")
_MAX_ERROR_BYTES = 64 * 1024


class ApiError(Exception):
    """A request failed. The message gives the reason, or ``failure`` why there is no token."""

    def __init__(self, message: str, failure: Failure | None = None, resource: str = "") -> None:
        super().__init__(message)
        self.failure = failure
        self.resource = resource


class ApiClient:
    """Sends requests to one service.

    ``get_token`` takes the claims challenge that rejected the previous token, if there is one.
    """

    def __init__(
        self,
        send: Callable[[ApiRequest, str], ApiResponse],
        get_token: Callable[[str | None], str],
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._send = send
        self._get_token = get_token
        self.clock = clock

    def request(self, request: ApiRequest) -> ApiResponse:
        """Send a request, and retry if the service throttles or is unavailable."""
        for attempt in range(_MAX_ATTEMPTS):
            response = self._follow_redirects(request)
            seconds = retry_after(response, self.clock)
            seconds = _FIRST_PAUSE * 2**attempt if seconds is None else seconds
            is_last = attempt == _MAX_ATTEMPTS - 1 or seconds > _LONGEST_RETRY_AFTER
            if is_last or not _is_retryable(request.method, response.status):
                break
            self.clock.sleep(seconds)
        return response

    def _follow_redirects(self, request: ApiRequest) -> ApiResponse:
        origin_url(request.url)  # before a token is requested
        for _ in range(_MAX_REDIRECTS):
            response = self._send_authorized(request)
            if response.status not in _REDIRECTS:
                return response
            url = same_origin_url(request, response.headers.get("Location", ""))
            if request.method not in _SAFE_METHODS:
                raise ApiError(
                    f"the service redirects to {sanitize(url)}: send the request to this URL"
                )
            request = request.with_url(url)
        raise ApiError(f"the service redirects more than {_MAX_REDIRECTS} times")

    def _send_authorized(self, request: ApiRequest) -> ApiResponse:
        response = self._send_once(request, None)
        claims = claims_of(response.status, dict(response.headers.items()))
        if claims is None:
            return response
        return self._send_once(request, claims)

    def _send_once(self, request: ApiRequest, claims: str | None) -> ApiResponse:
        try:
            token = self._get_token(claims)
        except Failure as failure:
            raise ApiError(str(failure)) from None
        try:
            return self._send(request, token)
        except (OSError, HTTPException, TransportError, Failure) as error:
            # urllib raises URLError for an OSError.
            reason = error.reason if isinstance(error, URLError) else error
            text = sanitize(str(getattr(reason, "strerror", None) or reason))
            api_error = ApiError(f"{origin_url(request.url)}: {text or type(error).__name__}")
        # Raised outside the handler: the exception's context has frames that hold the token.
        raise api_error


def api_client(
    args: argparse.Namespace,
    resource: str,
    send: Callable[[ApiRequest, str], ApiResponse] | None = None,
) -> ApiClient:
    """Return a client with the tokens of the selected identity for ``resource``."""
    client = token_client(args)
    entry = client.entry(resource_of((resource,)))

    def get_token(claims: str | None) -> str:
        try:
            return client.token(entry, claims).value
        except Failure as failure:
            api_error = ApiError(str(failure), failure.copy(), resource)
        raise api_error

    return ApiClient(send or Sender(), get_token)


def print_api_error(args: argparse.Namespace, error: ApiError) -> int:
    """Print why a request failed; return the exit status."""
    if error.failure:
        return print_failure(args, error.resource, error.failure)
    return print_lines(text_lines(str(error), verbose=args.verbose))


def retry_after(response: ApiResponse, clock: Clock) -> float | None:
    """Return the seconds of the response's Retry-After header, if there is a valid one."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    now = clock.now()
    return Response(response.status, headers, b"", now, now, clock.wall()).retry_after


def error_text(response: ApiResponse) -> str:
    """Return an error response in one line."""
    body = response.body[:_MAX_ERROR_BYTES]
    try:
        document = json.loads(body)
        errors = document.get("errors") or [document["error"]]  # a list: HashiCorp Vault
        text = "; ".join(
            each if isinstance(each, str) else f"{each['code']}: {each['message']}"
            for each in errors
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        text = body.decode("utf-8", "replace")
    return f"{response.status} {sanitize(response.reason or '')}: {sanitize(text)}"


def json_of(response: ApiResponse) -> Any:
    """Return the body as JSON; None if it is something else."""
    try:
        return json.loads(response.body)
    except (ValueError, RecursionError):
        return None


def same_origin_url(request: ApiRequest, link: str) -> str:
    """Return the URL of a link in the response to ``request``."""
    try:
        url = urljoin(request.url, link)
        if origin_url(url) == origin_url(request.url):
            return url
    except ValueError:
        pass
    raise ApiError(f"refusing to follow a link to another host ({sanitize(link)})")


def _is_retryable(method: str, status: int) -> bool:
    return status == 429 or (status in (502, 503, 504) and method in _SAFE_METHODS)
