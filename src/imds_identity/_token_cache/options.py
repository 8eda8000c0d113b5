"""How a caller wants to be served, beside whose token is wanted and what for."""

from __future__ import annotations

import sys

from .._platform.fork import fork_safe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .._core.event import Event
    from .._http.exchange import Request, Response
    from .._http.retry_options import RetryOptions
    from .._http.runner import Sender

# Of an answer's header fields, those that have nothing to do with whose it is.
_SHOWN_HEADERS = ("content-type", "retry-after", "x-ms-request-id")


class CallOptions:
    """What one caller's keywords say that is nobody else's business.

    Args:
        retry_options: what is wanted otherwise of retries and time-outs, if anything.
        on_event: called once each fetch is over and nobody waits for it any more.
        logs_requests: whether each request is logged by itself.
        has_transport: whether requests go by the caller's own transport, which may get where
            others do not.
    """

    __slots__ = ("has_transport", "logs_requests", "on_event", "retry_options")

    def __init__(
        self,
        retry_options: RetryOptions | None = None,
        on_event: Callable[[Event], object] | None = None,
        *,
        logs_requests: bool = False,
        has_transport: bool = False,
    ) -> None:
        self.retry_options = retry_options
        self.on_event = on_event
        self.logs_requests = logs_requests
        self.has_transport = has_transport


class FetchTrace:
    """What is known of a fetch besides its outcome.

    Attributes:
        requested: whether the service was asked, and no other process had the token.
        requests: a line for each request that was sent, if the caller wants that logged.
    """

    __slots__ = ("requested", "requests")

    def __init__(self) -> None:
        self.requested = False
        self.requests: list[str] = []

    def tracing(self, send: Sender) -> Sender:
        """``send``, but each request is noted: never a secret, never a body."""
        with fork_safe():
            from .._http.transport_errors import redacted

        def traced(request: Request) -> Response:
            came = "nothing"
            try:
                response = send(request)
                came = _facts(response)
            except Exception as error:
                came = type(error).__name__
                raise
            finally:
                # A service may repeat whatever it likes, the secret that it was sent included.
                line = redacted(f"{request.method} {request.url}: {came}", request)
                self.requests.append(line)
            return response

        return traced


def _facts(response: Response) -> str:
    seconds = response.received_at - response.sent_at
    facts = [str(response.status), f"{seconds:.3f} s", f"{len(response.body)} bytes"]
    fields = (name for name in _SHOWN_HEADERS if name in response.headers)
    return ", ".join([*facts, *(f"{name}: {response.headers[name]}" for name in fields)])


def is_logged(level: str = "DEBUG") -> bool:
    """Whether somebody wants to know what is logged at ``level``; without `logging` nobody does.

    It reads what `getLogger` and `isEnabledFor` read. These take a lock of all loggers, and a
    signal handler that raises in them can leave that locked for every thread.
    """
    logging: Any = sys.modules.get("logging")
    # Another thread may be in the middle of importing it: then there is no manager yet.
    manager = getattr(getattr(logging, "Logger", None), "manager", None)
    if manager is None:
        return False
    logger = manager.loggerDict.get("imds_identity")
    if not isinstance(logger, logging.Logger):  # nobody has asked for it yet
        logger = manager.root
    token_request: int = getattr(logging, level)
    return not logger.disabled and manager.disable < token_request >= logger.getEffectiveLevel()
