"""azure-core's transports as senders of the engine, under its bounds of time and size."""

from __future__ import annotations

import functools
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import azure.core.rest._requests_basic  # noqa: F401 - else imported by the first request
from azure.core.exceptions import (
    DecodeError,
    HttpResponseError,
    IncompleteReadError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.core.pipeline.transport import AsyncioRequestsTransport, RequestsTransport
from azure.core.rest import HttpRequest

from .._engine.flight import Interrupted
from .._wire.bounded import OF_REQUESTS, problem_of_requests
from .._wire.connection import in_time, late_after
from .._wire.exchange import Dropped, Response, Unreached
from .._wire.problem import last_words, plain_headers, problem_of
from .._wire.sender import parts_of
from .body import Whole
from .loop import wait_for
from .policies import Policies
from .twins import (
    aiohttp_twin,
    bind,
    check_certificate,
    check_transport,
    is_async,
    options_for,
    requests_twin,
    warn_of_certificate,
)

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator

    from .._engine.provider import OpenSender
    from .._runtime.clock import Clock
    from .._wire.channel import Sender
    from .._wire.exchange import Request

__all__ = [
    "Policies",
    "async_sender",
    "check_policies",
    "check_transport",
    "is_async",
    "sync_sender",
    "warn_of_certificate",
]


def check_policies(transport: Any, policies: Policies, *, has_a_loop: bool) -> None:
    """Refuse policies that cannot be called where ``transport`` sends.

    Args:
        transport: the caller's, if there is one.
        policies: likewise.
        has_a_loop: whether an event loop is there to await them.

    Raises:
        TypeError: for one that would have to be awaited and is not, or the other way round.
    """
    policies.check(on_a_loop=has_a_loop and _needs_a_loop(transport, policies))


def sync_sender(transport: Any, policies: Policies) -> OpenSender:
    """Sends by ``transport``, or by azure-core's own if there are policies and no transport."""
    return functools.partial(_opened, functools.partial(_run, transport, policies))


def async_sender(transport: Any, policies: Policies, loop: asyncio.AbstractEventLoop) -> OpenSender:
    """Sends by ``transport``; an async one runs on ``loop`` while the engine's thread waits."""
    if not _needs_a_loop(transport, policies):
        return sync_sender(transport, policies)

    def run(request: Request, clock: Clock) -> Response:
        begin = functools.partial(_run_async, transport, policies, request, clock)
        return wait_for(begin, loop, request.seconds, clock)

    return functools.partial(_opened, run)


def _needs_a_loop(transport: Any, policies: Policies) -> bool:
    return policies.need_a_loop if transport is None else is_async(transport)


@contextmanager
def _opened(run: Callable[[Request, Clock], Response], clock: Clock) -> Iterator[Sender]:
    def send(request: Request) -> Response:
        try:
            parts_of(request)
            return run(request, clock)
        except Interrupted:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it leaves as one of ours
            problem = _problem_of(error, request)
        # Not inside the handler: an exception's context holds frames, and those hold secrets.
        raise problem

    yield send


def _run(transport: Any, policies: Policies, request: Request, clock: Clock) -> Response:
    """Send ``request`` by a transport that blocks."""
    if transport is None:
        transport = RequestsTransport(**policies.of_transport)
    twin = requests_twin(transport, request, clock)
    if twin is not None:
        with twin.session:
            return _send(twin, policies, request, clock)
    check_certificate(transport, request)
    bind(transport, request, clock)
    # Nothing is known of what it does with time-outs.
    send = functools.partial(_send, transport, policies, request, clock)
    return in_time(send, request.seconds, late_after(request.seconds))


def _send(transport: Any, policies: Policies, request: Request, clock: Clock) -> Response:
    whole = Whole(clock, request.seconds)
    options = options_for(transport, request)
    return whole.response(policies.run(_http(request), transport, whole, **options))


async def _run_async(
    transport: Any, policies: Policies, request: Request, clock: Clock
) -> Response:
    """Send ``request`` by a transport that is awaited."""
    if transport is None:
        transport = AsyncioRequestsTransport(**policies.of_transport)
    twin = requests_twin(transport, request, clock)
    if twin is not None:
        with twin.session:
            return await _send_async(twin, policies, request, clock)
    check_certificate(transport, request)
    twin = aiohttp_twin(transport, request)
    if twin is not None:
        async with twin.session:
            return await _send_async(twin, policies, request, clock)
    bind(transport, request, clock)
    return await _send_async(transport, policies, request, clock)


async def _send_async(
    transport: Any, policies: Policies, request: Request, clock: Clock
) -> Response:
    whole = Whole(clock, request.seconds)
    options = options_for(transport, request)
    return whole.response(await policies.run_async(_http(request), transport, whole, **options))


def _http(request: Request) -> HttpRequest:
    return HttpRequest(
        request.method, request.url, headers=plain_headers(request), content=request.body
    )


def _problem_of(error: Exception, request: Request) -> Exception:
    inner = getattr(error, "inner_exception", None)
    of_requests = inner if isinstance(inner, OF_REQUESTS) else error
    if isinstance(of_requests, OF_REQUESTS):
        return problem_of_requests(of_requests, request)
    if isinstance(error, ServiceRequestError):
        return Unreached(last_words(error, request))
    broken_off = (IncompleteReadError, ServiceResponseError, DecodeError)
    # The very class: its subclasses are what services say to clients of theirs.
    if isinstance(error, broken_off) or type(error) is HttpResponseError:
        return Dropped(last_words(error, request))
    return problem_of(error, request)
