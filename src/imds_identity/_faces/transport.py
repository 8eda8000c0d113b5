"""azure-core's transports as senders of the engine."""

from __future__ import annotations

import asyncio
import concurrent.futures
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import (
    IncompleteReadError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.core.pipeline import AsyncPipeline, Pipeline
from azure.core.pipeline.policies import CustomHookPolicy
from azure.core.pipeline.transport import AsyncHttpTransport, HttpTransport, RequestsTransport
from azure.core.rest import HttpRequest

from .._core.failure import Malformed
from .._engine.flight import Interrupted
from .._wire.exchange import Dropped, Request, Response, Unreached
from .._wire.retry import CONNECT_TIMEOUT
from .._wire.sender import LARGEST_BODY, READ_TIMEOUT, USER_AGENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .._core.clock import Clock
    from .._engine.provider import OpenSender
    from .._wire.drive import Sender

# A transport that reads the environment would hand the token to a proxy.
_NO_PROXY = {"http": None, "https": None, "no_proxy": "*"}
_POLL = 0.2


def is_async(transport: Any) -> bool:
    """Whether ``transport`` is to be awaited; some are both, by their ancestry."""
    return isinstance(transport, AsyncHttpTransport) or not isinstance(transport, HttpTransport)


def sync_sender(transport: Any, hooks: dict[str, Any]) -> OpenSender:
    """Sends by ``transport``, or by azure-core's own if there are hooks and no transport."""
    if transport is None:
        transport = RequestsTransport(use_env_settings=False)
    run = Pipeline(transport, [CustomHookPolicy(**hooks)]).run
    return _opener(lambda request: run(request, **_options(transport)).http_response)


def async_sender(
    transport: Any, hooks: dict[str, Any], loop: asyncio.AbstractEventLoop
) -> OpenSender:
    """Sends by ``transport``; an async one runs on ``loop`` while the engine's thread waits."""
    if transport is None or not is_async(transport):
        return sync_sender(transport, hooks)
    pipeline = AsyncPipeline(transport, [CustomHookPolicy(**hooks)])

    async def run(request: HttpRequest) -> Any:
        answer = (await pipeline.run(request, **_options(transport))).http_response
        if asyncio.iscoroutinefunction(getattr(answer, "read", None)):
            await answer.read()
        return answer

    return _opener(lambda request: _wait(run, request, loop))


def _options(transport: Any) -> dict[str, Any]:
    if isinstance(transport, RequestsTransport) and is_async(transport):
        # These know one time-out only, and hand it to requests as it is.
        return {"connection_timeout": (CONNECT_TIMEOUT, READ_TIMEOUT), "proxies": _NO_PROXY}
    return {
        "connection_timeout": CONNECT_TIMEOUT,
        "read_timeout": READ_TIMEOUT,
        "proxies": _NO_PROXY,
    }


def _opener(run: Callable[[HttpRequest], Any]) -> OpenSender:
    @contextmanager
    def opened(clock: Clock) -> Iterator[Sender]:
        def send(request: Request) -> Response:
            headers = {**request.headers, "Accept": "application/json", "User-Agent": USER_AGENT}
            sent_at = clock.now()
            try:
                answer = run(
                    HttpRequest(request.method, request.url, headers=headers, content=request.body)
                )
                body = _body(answer)
            except IncompleteReadError as error:
                raise Dropped(str(error.message)) from None
            except ServiceRequestError as error:
                raise Unreached(_words(error)) from None
            except ServiceResponseError as error:
                raise Dropped(_words(error)) from None
            return Response(
                status=answer.status_code,
                headers={str(n).lower(): str(v) for n, v in answer.headers.items()},
                body=body,
                sent_at=sent_at,
                received_at=clock.now(),
                received_wall=clock.wall(),
            )

        yield send

    return opened


def _body(answer: Any) -> bytes:
    text = answer.text(encoding="utf-8")
    body = text if isinstance(text, bytes) else str(text).encode("utf-8")
    if len(body) > LARGEST_BODY:
        raise Malformed(f"the answer is larger than {LARGEST_BODY} bytes")
    return body


def _wait(
    run: Callable[[HttpRequest], Any], request: HttpRequest, loop: asyncio.AbstractEventLoop
) -> Any:
    if loop.is_closed():
        raise Interrupted
    future = asyncio.run_coroutine_threadsafe(run(request), loop)
    while True:
        try:
            return future.result(timeout=_POLL)
        except concurrent.futures.CancelledError:
            raise Interrupted from None
        except concurrent.futures.TimeoutError:
            # A loop that was closed in the meantime will never answer.
            if loop.is_closed():
                raise Interrupted from None


def _words(error: Exception) -> str:
    return str(error).rsplit(": ", 1)[-1].strip("()'\" ") or type(error).__name__
