"""The options of a fetch, and the trace that is recorded of it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .._core.event import Event
    from .._http.retry_options import RetryOptions


class CallOptions:
    """Options of one caller; its own transport may reach endpoints that other transports cannot."""

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
    """What is recorded of a fetch in addition to its outcome.

    Attributes:
        summary: source, resource and identity, for messages.
        requested: whether a request was sent, because no other process had the token.
        requests: one line per request, if the caller wants requests logged.
    """

    __slots__ = ("requested", "requests", "summary")

    def __init__(self, summary: str) -> None:
        self.summary = summary
        self.requested = False
        self.requests: list[str] = []
