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
        self.retry_options: RetryOptions | None = retry_options
        self.on_event: Callable[[Event], object] | None = on_event
        self.logs_requests: bool = logs_requests
        self.has_transport: bool = has_transport


class FetchTrace:
    """What is recorded of a fetch in addition to its outcome.

    Args:
        describe: returns the summary, which most fetches do not need.

    Attributes:
        requested: whether a request was sent, because no other process had the token.
        requests: one line per request, if the caller wants requests logged.
    """

    __slots__ = ("_describe", "requested", "requests")

    def __init__(self, describe: Callable[[], str]) -> None:
        self._describe = describe
        self.requested = False
        self.requests: list[str] = []

    @property
    def summary(self) -> str:
        """Source, resource and identity, for messages."""
        return self._describe()
