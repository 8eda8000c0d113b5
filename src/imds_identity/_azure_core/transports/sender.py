"""Senders that use azure-core transports, within this package's limits on time and size."""

from __future__ import annotations

import functools
from contextlib import contextmanager
from typing import TYPE_CHECKING

import azure.core.rest._requests_basic  # noqa: F401 - else the first request imports it
from azure.core.exceptions import (
    DecodeError,
    HttpResponseError,
    IncompleteReadError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.core.pipeline.transport import AsyncioRequestsTransport, RequestsTransport
from azure.core.rest import HttpRequest

from ..._http.connection import call_with_timeout, timed_out
from ..._http.exchange import ConnectFailed, ReadFailed
from ..._http.local_errors import local_failure
from ..._http.requests_transport import REQUESTS_ERRORS, transport_error_from_requests
from ..._http.transport import parts_of
from ..._http.transport_errors import plain_headers, system_message, transport_error_from
from ..._token_cache.flight import Interrupted
from .body import ResponseBody
from .isolated import (
    AnyTransport,
    bound_requests,
    check_certificate,
    check_transport,
    is_async,
    isolated_aiohttp,
    isolated_requests,
    options_for,
    warn_of_certificate,
)
from .loop import wait_for
from .pipeline import Policies

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator

    from ..._http.messages import Request, Response
    from ..._http.runner import Sender
    from ..._platform.clock import Clock
    from ..._token_cache.token_exchange import OpenSender

__all__ = [
    "Policies",
    "async_sender",
    "check_policies",
    "check_transport",
    "is_async",
    "sync_sender",
    "warn_of_certificate",
]


def check_policies(transport: AnyTransport, policies: Policies, *, is_async: bool) -> None:
    """Refuse policies that cannot run where ``transport`` sends.

    Raise TypeError for an async policy without an event loop, or a sync one on a loop.
    """
    policies.check(on_loop=is_async and _needs_a_loop(transport, policies))


def sync_sender(transport: AnyTransport, policies: Policies) -> OpenSender:
    """Return a sender that uses ``transport``, or azure-core's default transport if it is None."""
    return functools.partial(_opened, functools.partial(_run, transport, policies))


def async_sender(
    transport: AnyTransport, policies: Policies, loop: asyncio.AbstractEventLoop
) -> OpenSender:
    """Like `sync_sender`; an async transport runs on ``loop`` while the fetch's thread waits."""
    if not _needs_a_loop(transport, policies):
        return sync_sender(transport, policies)

    def run(request: Request, clock: Clock) -> Response:
        begin = functools.partial(_run_async, transport, policies, request, clock)
        return wait_for(begin, loop, request.seconds, clock)

    return functools.partial(_opened, run)


def _needs_a_loop(transport: AnyTransport, policies: Policies) -> bool:
    return policies.need_loop if transport is None else is_async(transport)


@contextmanager
def _opened(run: Callable[[Request, Clock], Response], clock: Clock) -> Iterator[Sender]:
    def send(request: Request) -> Response:
        try:
            parts_of(request)
            return run(request, clock)
        except Interrupted:
            raise
        except Exception as error:  # noqa: BLE001 - it becomes one of this package's
            problem = _transport_error_from(error, request)
        # Outside the handler: an exception's context keeps frames and their secrets alive.
        raise problem

    yield send


def _run(transport: AnyTransport, policies: Policies, request: Request, clock: Clock) -> Response:
    """Send ``request`` through a sync transport."""
    if transport is None:
        transport = RequestsTransport(**policies.transport_options)
    isolated = isolated_requests(transport, request, clock)
    if isolated is not None:
        with isolated.session:
            return _send(isolated, policies, request, clock)
    check_certificate(transport, request)
    bound_requests(transport, request, clock)
    # This transport may ignore the timeouts.
    send = functools.partial(_send, transport, policies, request, clock)
    return call_with_timeout(send, request.seconds, timed_out(request.seconds))


def _send(transport: AnyTransport, policies: Policies, request: Request, clock: Clock) -> Response:
    body = ResponseBody(clock, request.seconds)
    options = options_for(transport, request)
    return body.response(policies.run(_http(request), transport, body, **options))


async def _run_async(
    transport: AnyTransport, policies: Policies, request: Request, clock: Clock
) -> Response:
    """Send ``request`` through an async transport."""
    if transport is None:
        transport = AsyncioRequestsTransport(**policies.transport_options)
    isolated = isolated_requests(transport, request, clock)
    if isolated is not None:
        with isolated.session:
            return await _send_async(isolated, policies, request, clock)
    check_certificate(transport, request)
    isolated = isolated_aiohttp(transport, request)
    if isolated is not None:
        async with isolated.session:
            return await _send_async(isolated, policies, request, clock)
    bound_requests(transport, request, clock)
    return await _send_async(transport, policies, request, clock)


async def _send_async(
    transport: AnyTransport, policies: Policies, request: Request, clock: Clock
) -> Response:
    body = ResponseBody(clock, request.seconds)
    options = options_for(transport, request)
    return body.response(await policies.run_async(_http(request), transport, body, **options))


def _http(request: Request) -> HttpRequest:
    return HttpRequest(
        request.method, request.url, headers=plain_headers(request), content=request.body
    )


def _transport_error_from(error: Exception, request: Request) -> Exception:
    if failure := local_failure(error):
        return failure
    inner = getattr(error, "inner_exception", None)
    of_requests = inner if isinstance(inner, REQUESTS_ERRORS) else error
    if isinstance(of_requests, REQUESTS_ERRORS):
        return transport_error_from_requests(of_requests, request)
    if isinstance(error, ServiceRequestError):
        return ConnectFailed(system_message(error, request))
    broken_off = (IncompleteReadError, ServiceResponseError, DecodeError)
    # This class only: its subclasses are errors of the services that Azure clients call.
    if isinstance(error, broken_off) or type(error) is HttpResponseError:
        return ReadFailed(system_message(error, request))
    return transport_error_from(error, request)
