"""azure-core's transports as senders of the engine, under its bounds of time and size."""

from __future__ import annotations

import functools
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import azure.core.rest._requests_basic  # noqa: F401 - else imported by the first request
import requests
import urllib3
from azure.core.exceptions import (
    DecodeError,
    HttpResponseError,
    IncompleteReadError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.core.pipeline import AsyncPipeline, Pipeline
from azure.core.pipeline.policies import AsyncHTTPPolicy, CustomHookPolicy, HTTPPolicy
from azure.core.pipeline.transport import RequestsTransport
from azure.core.rest import HttpRequest

from .._engine.flight import Interrupted
from .._wire.bounded import BoundedSession
from .._wire.connection import in_time, late_after
from .._wire.exchange import Dropped, Response, Unreached
from .._wire.sender import check_url, last_words, plain_headers, problem_of
from .body import Whole, async_body_of, body_of
from .loop import wait_for
from .twins import aiohttp_twin, bind, check_transport, is_async, options_for, requests_twin

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator

    from .._engine.provider import OpenSender
    from .._runtime.clock import Clock
    from .._wire.channel import Sender
    from .._wire.exchange import Request

__all__ = ["async_sender", "check_transport", "is_async", "sync_sender"]


def sync_sender(transport: Any, hooks: dict[str, Any]) -> OpenSender:
    """Sends by ``transport``, or by azure-core's own if there are hooks and no transport."""
    return functools.partial(_opened, functools.partial(_run, transport, hooks))


def async_sender(
    transport: Any, hooks: dict[str, Any], loop: asyncio.AbstractEventLoop
) -> OpenSender:
    """Sends by ``transport``; an async one runs on ``loop`` while the engine's thread waits."""
    if transport is None or not is_async(transport):
        return sync_sender(transport, hooks)

    def run(request: Request, clock: Clock) -> Response:
        begin = functools.partial(_run_async, transport, hooks, request, clock)
        return wait_for(begin, loop, request.seconds, clock)

    return functools.partial(_opened, run)


@contextmanager
def _opened(run: Callable[[Request, Clock], Response], clock: Clock) -> Iterator[Sender]:
    def send(request: Request) -> Response:
        try:
            check_url(request)
            return run(request, clock)
        except Interrupted:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it leaves as one of ours
            problem = _problem_of(error, request)
        # Not inside the handler: an exception's context holds frames, and those hold secrets.
        raise problem

    yield send


def _run(transport: Any, hooks: dict[str, Any], request: Request, clock: Clock) -> Response:
    """Send ``request`` by a transport that blocks."""
    if transport is None:
        transport = RequestsTransport(session=BoundedSession(clock))
        twin = transport
    else:
        twin = requests_twin(transport, clock)
    if twin is not None:
        with twin.session:
            return _send(twin, hooks, request, clock)
    bind(transport, request, clock)
    # Nothing is known of what it does with time-outs.
    send = functools.partial(_send, transport, hooks, request, clock)
    return in_time(send, request.seconds, late_after(request.seconds))


def _send(transport: Any, hooks: dict[str, Any], request: Request, clock: Clock) -> Response:
    reader = _Reader(Whole(clock, request.seconds))
    pipeline = Pipeline(transport, [CustomHookPolicy(**hooks), reader])
    answer = pipeline.run(_http(request), **options_for(transport, request)).http_response
    return reader.whole.response(answer)


async def _run_async(
    transport: Any, hooks: dict[str, Any], request: Request, clock: Clock
) -> Response:
    """Send ``request`` by a transport that is awaited."""
    twin = requests_twin(transport, clock)
    if twin is not None:
        with twin.session:
            return await _send_async(twin, hooks, request, clock)
    twin = aiohttp_twin(transport)
    if twin is not None:
        async with twin.session:
            return await _send_async(twin, hooks, request, clock)
    bind(transport, request, clock)
    return await _send_async(transport, hooks, request, clock)


async def _send_async(
    transport: Any, hooks: dict[str, Any], request: Request, clock: Clock
) -> Response:
    reader = _AsyncReader(Whole(clock, request.seconds))
    pipeline: Any = AsyncPipeline(transport, [CustomHookPolicy(**hooks), reader])
    ran = await pipeline.run(_http(request), **options_for(transport, request))
    return reader.whole.response(ran.http_response)


def _http(request: Request) -> HttpRequest:
    return HttpRequest(
        request.method, request.url, headers=plain_headers(request), content=request.body
    )


class _Reader(HTTPPolicy[Any, Any]):
    """Next to the transport: reads the answer, so that hooks are shown a whole one."""

    def __init__(self, whole: Whole) -> None:
        super().__init__()
        self.whole = whole

    def send(self, request: Any) -> Any:
        """Send it on, and read what comes."""
        self.whole.sending()
        answer = self.next.send(request)
        body_of(answer.http_response, self.whole)
        return answer


class _AsyncReader(AsyncHTTPPolicy[Any, Any]):
    """The same for transports that are awaited."""

    def __init__(self, whole: Whole) -> None:
        super().__init__()
        self.whole = whole

    async def send(self, request: Any) -> Any:
        """Send it on, and read what comes."""
        self.whole.sending()
        answer: Any = await self.next.send(request)
        await async_body_of(answer.http_response, self.whole)
        return answer


def _problem_of(error: Exception, request: Request) -> Exception:
    inner = getattr(error, "inner_exception", None)
    if isinstance(inner, requests.RequestException | urllib3.exceptions.HTTPError):
        return problem_of(inner, request)
    if isinstance(error, ServiceRequestError):
        return Unreached(last_words(error, request))
    broken_off = (IncompleteReadError, ServiceResponseError, DecodeError)
    # The very class: its subclasses are what services say to clients of theirs.
    if isinstance(error, broken_off) or type(error) is HttpResponseError:
        return Dropped(last_words(error, request))
    return problem_of(error, request)
