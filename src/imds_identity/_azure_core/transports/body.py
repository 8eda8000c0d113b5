"""The body of an answer of azure-core's, read as it came and no further than its bounds."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from azure.core.pipeline.transport import AsyncHttpResponse as OldAsyncHttpResponse
from azure.core.pipeline.transport import HttpResponse as OldHttpResponse
from azure.core.rest import AsyncHttpResponse, HttpResponse

from ..._http.bounded import MAX_BODY, check_encoding, timed_out, too_large
from ..._http.messages import Response

if TYPE_CHECKING:
    from ..._platform.clock import Clock


# It is asked for, and not used.
_NO_PIPELINE: Any = None


class ResponseBody:
    """One answer as it is put together.

    Args:
        clock: when that is.
        seconds: how long it may take.
    """

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._ends = clock.now() + seconds
        self._sent_at = clock.now()
        self._body = bytearray()

    def sending(self) -> None:
        """From here on the answer is waited for."""
        self._body.clear()
        self._sent_at = self._clock.now()

    def add(self, chunk: bytes) -> None:
        """One more piece.

        Raises:
            Malformed: if there are too many.
            ReadFailed: if it comes too late.
        """
        self._body += chunk
        if len(self._body) > MAX_BODY:
            raise too_large()
        if self._clock.now() > self._ends:
            raise timed_out(self._seconds)

    def keep_in(self, response: Any) -> None:
        """Put what was read where ``response`` itself looks for it, so that hooks may read it."""
        holders: tuple[Any, Any] = (response, getattr(response, "internal_response", None))
        for holder in holders:
            if hasattr(holder, "_content"):
                holder._content = bytes(self._body)

    def response(self, response: Any) -> Response:
        """All of it, as the engine has it."""
        return Response(
            status=response.status_code,
            headers=_headers_of(response),
            body=bytes(self._body),
            sent_at=self._sent_at,
            received_at=self._clock.now(),
            received_wall=self._clock.wall(),
        )


def read_body(response: Any, body: ResponseBody) -> None:
    """Read ``response`` into ``body``.

    Raises:
        Malformed: if it is compressed or too large.
        ReadFailed: if it is not complete in time.
    """
    try:
        check_encoding(_headers_of(response))
        for chunk in _chunks(response):
            body.add(chunk)
    except BaseException:
        _close(response)
        raise
    if isinstance(response, HttpResponse | OldHttpResponse):
        body.keep_in(response)


async def read_body_async(response: Any, body: ResponseBody) -> None:
    """Read an ``response`` that is awaited into ``body``, as `read_body` does."""
    try:
        check_encoding(_headers_of(response))
        async for chunk in _async_chunks(response):
            body.add(chunk)
    except BaseException:
        _close(response)
        raise
    if isinstance(response, AsyncHttpResponse | OldAsyncHttpResponse):
        body.keep_in(response)


def _chunks(response: Any) -> Any:
    if isinstance(response, HttpResponse):
        return [response.content] if response.is_stream_consumed else response.iter_raw()
    if isinstance(response, OldHttpResponse):
        return response.stream_download(_NO_PIPELINE, decompress=False) or [response.body()]
    return [_text(response)]


async def _async_chunks(response: Any) -> Any:
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


def _text(response: Any) -> bytes:
    """All that a stand-in of somebody's test can say."""
    text = response.text(encoding="utf-8")
    return text if isinstance(text, bytes) else str(text).encode("utf-8")


def _headers_of(response: Any) -> dict[str, str]:
    return {str(name).lower(): str(value) for name, value in response.headers.items()}


def _close(response: Any) -> None:
    """Close the connection: what is still to come is not waited for."""
    inner = getattr(response, "internal_response", response)
    with contextlib.suppress(Exception):
        inner.close()
