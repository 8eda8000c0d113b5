"""The exchange with the token source, if no other process has the token."""

from __future__ import annotations

from functools import partial

from .._core.failure import Failure, Unavailable
from .._core.secret import Secret
from .._core.source import shown_url
from .._http.local_errors import unexpected_failure
from .flight import LONGEST_EXCHANGE, Interrupted
from .notifications import notify
from .options import FetchTrace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from typing import TypeAlias

    from .._core.identity import Identity
    from .._core.token import Token
    from .._core.token_request import TokenRequest
    from .._http.messages import Request, Response
    from .._http.runner import ExchangeRunner, Heartbeat, RateLimiter, Sender
    from .._platform.clock import Clock
    from .._shared_cache.store import SharedCache
    from .._sources.host import TokenSource
    from .cache import TokenCache
    from .flight import FetchResult
    from .options import CallOptions

OpenSender: TypeAlias = "Callable[[Clock], AbstractContextManager[Sender]]"

_IMPORT_SECONDS = 30.0
"""Seconds that imports may take on a machine where many programs start at once."""
# Response headers that contain no identity.
_LOGGED_HEADERS = ("content-type", "retry-after", "x-ms-request-id")


def preload() -> None:
    """Import what every exchange needs, so that no fetch has to import anything."""
    from .._http import retry, runner, transport, transport_errors
    from .._shared_cache import rate_limit

    del rate_limit, retry, runner, transport, transport_errors


class TokenExchange:
    """A callable that requests a token from a source.

    ``open_sender`` replaces the package's own transport. ``preload`` imports the modules that the
    exchange needs; it is None if they are already imported.
    """

    def __init__(
        self,
        source: TokenSource,
        token_request: TokenRequest,
        token_cache: TokenCache,
        shared_cache: SharedCache | None,
        options: CallOptions | None,
        open_sender: OpenSender | None,
        preload: Callable[[], object] | None,
    ) -> None:
        self._source = source
        identity = source.resolve(token_request.identity)
        self._token_request = token_request._replace(identity=identity)
        self._token_cache = token_cache
        self._shared_cache = shared_cache
        self._options = options
        self._open_sender = open_sender
        self._preload = preload
        self.trace = FetchTrace(partial(_description, source, token_request, identity))

    def __call__(self, heartbeat: Heartbeat) -> Token:
        """Request a token; an unexpected exception becomes a Failure."""
        try:
            return self._request(heartbeat)
        except (Failure, Interrupted):
            raise
        except Exception as error:  # noqa: BLE001 - callers get a documented error
            failure = unexpected_failure(error)
        for value in vars(self._source).values():
            if isinstance(value, Secret):
                failure.redact(value)
        failure.request_summary = self.trace.summary
        # Outside the handler: the context of an exception keeps frames and their secrets alive.
        raise failure

    def _request(self, heartbeat: Heartbeat) -> Token:
        self.trace.requested = True
        if self._preload:
            heartbeat(_IMPORT_SECONDS)
            self._preload()
        from .._http.transport import direct_sender

        source, clock = self._source, self._token_cache.clock
        unavailable_endpoints = self._token_cache.unavailable_endpoints
        # The caller's transport may reach endpoints that the package's own cannot.
        has_own_transport = self._options is not None and self._options.has_transport
        try:
            source.check()
            if not has_own_transport:
                unavailable_endpoints.check(source.endpoint, clock.now())
            with (self._open_sender or direct_sender)(clock) as send:
                token = source.fetch(self._token_request, self._runner(send, heartbeat))
            source.has_responded = True
            unavailable_endpoints.forget(source.endpoint)
            return token.as_answer(clock.now()) if self._token_request.claims else token
        except Failure as failure:
            failure.request_summary = self.trace.summary
            is_unavailable = isinstance(failure, Unavailable) and failure.status is None
            if is_unavailable and source.is_probe and not has_own_transport:
                unavailable_endpoints.remember(
                    source.endpoint,
                    failure,
                    clock.now(),
                    may_respond_later=source.may_respond_later,
                )
            raise

    def notify(self, result: FetchResult) -> None:
        """Log the result, call the caller's hook and remove files that no process needs."""
        notify(self._source, self._options, self.trace, result)
        if self._shared_cache and self.trace.requested:
            self._shared_cache.sweep()

    def _runner(self, send: Sender, heartbeat: Heartbeat) -> ExchangeRunner:
        from .._http.retry_options import DEFAULT_RETRY
        from .._http.runner import ExchangeRunner

        options = self._options
        return ExchangeRunner(
            self._logged(send) if options and options.logs_requests else send,
            self._token_cache.clock,
            self._rate_limiter(),
            heartbeat,
            self._token_cache.random,
            LONGEST_EXCHANGE,
            (options and options.retry_options) or DEFAULT_RETRY,
        )

    def _rate_limiter(self) -> RateLimiter | None:
        from .._shared_cache.rate_limit import ProcessRateLimiter, rate_limiter_for

        source, token_cache = self._source, self._token_cache
        # A probed endpoint may not exist: it has no limits that are worth waiting for.
        if source.is_probe or not source.is_per_machine:
            return None
        if self._shared_cache:
            return rate_limiter_for(self._shared_cache, source, token_cache.random)
        if self._options is not None and self._options.has_transport:
            return None  # it may not send to the service at all, such as in a test
        if limiter := token_cache.rate_limiters.get(source.endpoint):
            return limiter
        limiter = ProcessRateLimiter(token_cache.clock, token_cache.random)
        return token_cache.rate_limiters.setdefault(source.endpoint, limiter)

    def _logged(self, send: Sender) -> Sender:
        """Return ``send`` with a line in the trace for each request, without secrets."""
        from .._http.transport_errors import redacted

        def send_logged(request: Request) -> Response:
            outcome = "no response"
            try:
                response = send(request)
                outcome = _summary(response)
            except Exception as error:
                outcome = type(error).__name__
                raise
            finally:
                # The service may echo anything, including the secret that was sent to it.
                line = redacted(f"{request.method} {shown_url(request.url)}: {outcome}", request)
                self.trace.requests.append(line)
            return response

        return send_logged


def _description(source: TokenSource, token_request: TokenRequest, identity: Identity) -> str:
    note = source.unused_variable_note(token_request.identity)
    summary = f"{source} for {token_request.resource!r} as {identity}"
    return f"{summary} ({note})" if note else summary


def _summary(response: Response) -> str:
    seconds = response.received_at - response.sent_at
    facts = [str(response.status), f"{seconds:.3f} s", f"{len(response.body)} bytes"]
    headers = response.headers
    return ", ".join(
        [*facts, *(f"{name}: {headers[name]}" for name in _LOGGED_HEADERS if name in headers)]
    )
