"""Read the bodies of azure-core's responses, undecoded and within the limits of time and size."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, TypeAlias

from azure.core.pipeline.transport import AsyncHttpResponse as OldAsyncHttpResponse
from azure.core.pipeline.transport import HttpResponse as OldHttpResponse
from azure.core.rest import AsyncHttpResponse, HttpResponse

from ..._http.connection import Deadline, check_encoding, too_large
from ..._http.messages import MAX_BODY, Response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from ..._platform.clock import Clock


# stream_download() requires a pipeline and does not use it.
AnyResponse: TypeAlias = Any
"""A response of azure-core, of its old or new API, or a test double with the same methods."""
_NO_PIPELINE: Any = None


class ResponseBody:
    """One response as it is read."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._deadline = Deadline(clock, seconds)
        self._sent_at = clock.now()
        self._body = bytearray()

    def restart(self) -> None:
        """Start over: the request is being sent."""
        self._body.clear()
        self._sent_at = self._clock.now()

    def add(self, chunk: bytes) -> None:
        """Append a chunk.

        Raise Malformed if the body is too large; ReadFailed after the deadline.
        """
        self._body += chunk
        if len(self._body) > MAX_BODY:
            raise too_large()
        self._deadline.remaining()

    def store_in(self, response: AnyResponse) -> None:
        """Store the body in ``response``, so that hooks can read it."""
        holders: tuple[object, object] = (response, getattr(response, "internal_response", None))
        for holder in holders:
            if hasattr(holder, "_content"):
                holder._content = bytes(self._body)

    def response(self, response: AnyResponse) -> Response:
        """Return it as the package's own response."""
        return Response(
            status=response.status_code,
            headers=_headers_of(response),
            body=bytes(self._body),
            sent_at=self._sent_at,
            received_at=self._clock.now(),
            received_wall=self._clock.wall(),
        )


def read_body(response: AnyResponse, body: ResponseBody) -> None:
    """Read ``response`` into ``body``.

    Raise Malformed if it is compressed or too large; ReadFailed if it is not complete before the
    deadline.
    """
    try:
        check_encoding(_headers_of(response))
        for chunk in _chunks(response):
            body.add(chunk)
    except BaseException:
        _close(response)
        raise
    if isinstance(response, HttpResponse | OldHttpResponse):
        body.store_in(response)


async def read_body_async(response: AnyResponse, body: ResponseBody) -> None:
    """Like `read_body`, for an async response."""
    try:
        check_encoding(_headers_of(response))
        async for chunk in _async_chunks(response):
            body.add(chunk)
    except BaseException:
        _close(response)
        raise
    if isinstance(response, AsyncHttpResponse | OldAsyncHttpResponse):
        body.store_in(response)


def _chunks(response: AnyResponse) -> Iterable[bytes]:
    if isinstance(response, HttpResponse):
        return [response.content] if response.is_stream_consumed else response.iter_raw()
    if isinstance(response, OldHttpResponse):
        return response.stream_download(_NO_PIPELINE, decompress=False) or [response.body()]
    return [_text(response)]


async def _async_chunks(response: AnyResponse) -> AsyncIterator[bytes]:
    if isinstance(response, AsyncHttpResponse) and not response.is_stream_consumed:
        async for chunk in response.iter_raw():
            yield chunk
    elif isinstance(response, AsyncHttpResponse):
        yield response.content
    elif isinstance(response, OldAsyncHttpResponse):
        async for chunk in response.stream_download(_NO_PIPELINE, decompress=False):
            yield chunk
    else:
        yield _text(response)


def _text(response: AnyResponse) -> bytes:
    """Return the text of a mock response, which may lack the methods for bytes."""
    text = response.text(encoding="utf-8")
    return text if isinstance(text, bytes) else str(text).encode("utf-8")


def _headers_of(response: AnyResponse) -> dict[str, str]:
    return {str(name).lower(): str(value) for name, value in response.headers.items()}


def _close(response: AnyResponse) -> None:
    """Close the connection; the rest of the response is not read."""
    inner: AnyResponse = getattr(response, "internal_response", response)
    with contextlib.suppress(Exception):
        inner.close()
