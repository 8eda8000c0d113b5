"""How a caller wants to be served, beside whose token is wanted and what for."""

from __future__ import annotations

import sys

from .._runtime.fork import whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .._core.event import Event
    from .._wire.channel import Sender
    from .._wire.exchange import Request, Response
    from .._wire.patience import Patience

# Of an answer's header fields, those that have nothing to do with whose it is.
_SHOWN_HEADERS = ("content-type", "retry-after", "x-ms-request-id")


class Manner:
    """What one caller's keywords say that is nobody else's business.

    Args:
        patience: what is wanted otherwise of retries and time-outs, if anything.
        on_event: called once each fetch is over and nobody waits for it any more.
        logs_requests: whether each request is logged by itself.
        has_transport: whether requests go by the caller's own transport, which may get where
            others do not.
    """

    __slots__ = ("has_transport", "logs_requests", "on_event", "patience")

    def __init__(
        self,
        patience: Patience | None = None,
        on_event: Callable[[Event], object] | None = None,
        *,
        logs_requests: bool = False,
        has_transport: bool = False,
    ) -> None:
        self.patience = patience
        self.on_event = on_event
        self.logs_requests = logs_requests
        self.has_transport = has_transport


class Notes:
    """What is known of a fetch besides its outcome.

    Attributes:
        asked: whether the service was asked, and no other process had the token.
        requests: a line for each request that was sent, if the caller wants that logged.
    """

    __slots__ = ("asked", "requests")

    def __init__(self) -> None:
        self.asked = False
        self.requests: list[str] = []

    def noting(self, send: Sender) -> Sender:
        """``send``, but each request is noted: never a secret, never a body."""
        with whole():
            from .._wire.problem import scrubbed

        def noted(request: Request) -> Response:
            came = "nothing"
            try:
                response = send(request)
                came = _facts(response)
            except Exception as error:
                came = type(error).__name__
                raise
            finally:
                # A service may repeat whatever it likes, the secret that it was sent included.
                line = scrubbed(f"{request.method} {request.url}: {came}", request)
                self.requests.append(line)
            return response

        return noted


def _facts(response: Response) -> str:
    seconds = response.received_at - response.sent_at
    facts = [str(response.status), f"{seconds:.3f} s", f"{len(response.body)} bytes"]
    fields = (name for name in _SHOWN_HEADERS if name in response.headers)
    return ", ".join([*facts, *(f"{name}: {response.headers[name]}" for name in fields)])


def listens(level: str = "DEBUG") -> bool:
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
    wanted: int = getattr(logging, level)
    return not logger.disabled and manager.disable < wanted >= logger.getEffectiveLevel()
