"""The body of an answer of azure-core's, read as it came and no further than its bounds."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from azure.core.pipeline.transport import AsyncHttpResponse as OldAsyncHttpResponse
from azure.core.pipeline.transport import HttpResponse as OldHttpResponse
from azure.core.rest import AsyncHttpResponse, HttpResponse

from .._wire.connection import LARGEST_BODY, check_encoding, late_after, too_large
from .._wire.exchange import Response

if TYPE_CHECKING:
    from .._runtime.clock import Clock


# It is asked for, and not used.
_NO_PIPELINE: Any = None


class Whole:
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
            Dropped: if it comes too late.
        """
        self._body += chunk
        if len(self._body) > LARGEST_BODY:
            raise too_large()
        if self._clock.now() > self._ends:
            raise late_after(self._seconds)

    def keep_in(self, answer: Any) -> None:
        """Put what was read where ``answer`` itself looks for it, so that hooks may read it."""
        holders: tuple[Any, Any] = (answer, getattr(answer, "internal_response", None))
        for holder in holders:
            if hasattr(holder, "_content"):
                holder._content = bytes(self._body)

    def response(self, answer: Any) -> Response:
        """All of it, as the engine has it."""
        return Response(
            status=answer.status_code,
            headers=_headers_of(answer),
            body=bytes(self._body),
            sent_at=self._sent_at,
            received_at=self._clock.now(),
            received_wall=self._clock.wall(),
        )


def body_of(answer: Any, whole: Whole) -> None:
    """Read ``answer`` into ``whole``.

    Raises:
        Malformed: if it is compressed or too large.
        Dropped: if it is not complete in time.
    """
    try:
        check_encoding(_headers_of(answer))
        for chunk in _chunks(answer):
            whole.add(chunk)
    except BaseException:
        _close(answer)
        raise
    if isinstance(answer, HttpResponse | OldHttpResponse):
        whole.keep_in(answer)


async def async_body_of(answer: Any, whole: Whole) -> None:
    """Read an ``answer`` that is awaited into ``whole``, as `body_of` does."""
    try:
        check_encoding(_headers_of(answer))
        async for chunk in _async_chunks(answer):
            whole.add(chunk)
    except BaseException:
        _close(answer)
        raise
    if isinstance(answer, AsyncHttpResponse | OldAsyncHttpResponse):
        whole.keep_in(answer)


def _chunks(answer: Any) -> Any:
    if isinstance(answer, HttpResponse):
        return [answer.content] if answer.is_stream_consumed else answer.iter_raw()
    if isinstance(answer, OldHttpResponse):
        return answer.stream_download(_NO_PIPELINE, decompress=False) or [answer.body()]
    return [_text(answer)]


async def _async_chunks(answer: Any) -> Any:
    if isinstance(answer, AsyncHttpResponse) and not answer.is_stream_consumed:
        async for chunk in answer.iter_raw():
            yield chunk
    elif isinstance(answer, AsyncHttpResponse):
        yield answer.content
    elif isinstance(answer, OldAsyncHttpResponse):
        async for chunk in answer.stream_download(_NO_PIPELINE, decompress=False):
            yield chunk
    else:
        yield _text(answer)


def _text(answer: Any) -> bytes:
    """All that a stand-in of somebody's test can say."""
    text = answer.text(encoding="utf-8")
    return text if isinstance(text, bytes) else str(text).encode("utf-8")


def _headers_of(answer: Any) -> dict[str, str]:
    return {str(name).lower(): str(value) for name, value in answer.headers.items()}


def _close(answer: Any) -> None:
    """Close the connection: what is still to come is not waited for."""
    inner = getattr(answer, "internal_response", answer)
    with contextlib.suppress(Exception):
        inner.close()
