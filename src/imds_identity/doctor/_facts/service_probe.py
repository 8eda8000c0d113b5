"""Connect to the service, and request its metadata and a token, once each.

Everything together takes less than five seconds and eight requests. No token is kept.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..._core.claims import claims_in
from ..._core.failure import Failure, Reason, Refused, Unavailable, sanitize
from ..._core.identity import SYSTEM_ASSIGNED, parse_identity
from ..._core.source import shown_url
from ..._core.token_request import TokenRequest
from ..._http.connection import kind_of
from ..._http.dates import http_date
from ..._http.exchange import ConnectFailed, ErrorKind, TransportError
from ..._http.messages import RELAYED_BY_AZURE, Request, Response
from ..._http.retry_options import RetryOptions
from ..._http.runner import ExchangeRunner
from ..._http.transport import direct_sender
from ..._sources.arc.source import ArcSource
from ..._sources.azure_vm import ImdsSource
from .facts import RequestRecord, ServiceProbe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..._core.identity import Identity
    from ..._http.runner import Sender
    from ..._platform.clock import Clock
    from ..._sources.federated_application import FederatedSource
    from ..._sources.host import TokenSource

MAX_REQUESTS = 8
TOTAL_SECONDS = 3.5
"""The deadline for all requests together."""
_CONNECT_SECONDS = 1.5
_METADATA_SECONDS = 1.0
_MIN_SECONDS = 0.1
_METADATA_PATH = "/metadata/instance"
_METADATA_QUERY = "?api-version=2020-06-01"
# The headers that identify the responding server. Others, such as cookies, are not kept.
_RECORDED_HEADERS = (
    "connection", "content-type", "date", "location", "metadata-flavor", "proxy-authenticate",
    "retry-after", "server", "via", "www-authenticate", "x-cache", "x-envoy-upstream-service-time",
    RELAYED_BY_AZURE,
)  # fmt: skip


class RecordingSender:
    """A sender that limits the requests of the doctor and keeps a record of each."""

    def __init__(self, send: Sender, clock: Clock, deadline: float) -> None:
        self._send = send
        self.clock = clock
        self._deadline = deadline
        self.records: list[RequestRecord] = []

    @property
    def seconds_left(self) -> float:
        """Seconds until the deadline for all requests."""
        return self._deadline - self.clock.now()

    def __call__(self, request: Request) -> Response:
        """Send ``request``; raise TransportError if a limit of the doctor is reached."""
        if len(self.records) >= MAX_REQUESTS:
            raise ConnectFailed(f"the doctor sends at most {MAX_REQUESTS} requests")
        if self.seconds_left < _MIN_SECONDS:
            raise ConnectFailed(f"the doctor sends no requests after {TOTAL_SECONDS:g} s")
        path = urlsplit(shown_url(request.url)).path
        started, left = self.clock.now(), self.seconds_left
        connect_seconds, seconds = min(request.connect_seconds, left), min(request.seconds, left)
        try:
            response = self._send(request.with_timeouts(connect_seconds, seconds))
        except (TransportError, Failure) as error:
            text, seconds = sanitize(str(error)), self.clock.now() - started
            connect_failed = isinstance(error, ConnectFailed)
            kind = error.kind if isinstance(error, TransportError) else ErrorKind.OTHER
            self.records.append(
                RequestRecord(
                    path, error=text, kind=kind, seconds=seconds, connect_failed=connect_failed
                )
            )
            raise
        self.records.append(_record(path, response))
        return response


def probe_service(
    source: TokenSource,
    identity: Identity,
    resource: str,
    clock: Clock,
    *,
    request_token: bool,
    application: tuple[FederatedSource, str] | None = None,
) -> ServiceProbe:
    """Connect to ``source``, then request its metadata and, if ``request_token``, a token.

    For an ``application`` and its resource, request its token, too.
    """
    deadline = clock.now() + TOTAL_SECONDS
    probe = _try_connect(source, clock)
    if probe.connect_error:
        return probe
    with direct_sender(clock) as send:
        sender = RecordingSender(send, clock, deadline)
        if isinstance(source, ArcSource | ImdsSource):
            probe = _with_metadata(probe, source, sender)
        if request_token:
            probe = _with_token(probe, source, identity, resource, sender)
        probe = _with_requests(probe, tuple(sender.records))
        if application is None or probe.claims is None:
            return probe
        known = parse_identity(client_id=application[0].client_id)
        claims, failure = _request_token(application[0], known, application[1], sender)
        return probe._replace(
            application_claims=claims,
            application_failure=failure,
            application_requests=tuple(sender.records[len(probe.requests) :]),
        )


def _with_requests(probe: ServiceProbe, requests: tuple[RequestRecord, ...]) -> ServiceProbe:
    """Add the requests, and their connection error if no request was able to connect."""
    probe = probe._replace(requests=requests)
    if requests and all(request.connect_failed for request in requests):
        last = requests[-1]
        return probe._replace(connect_error=last.error, connect_kind=last.kind)
    return probe


def _try_connect(source: TokenSource, clock: Clock) -> ServiceProbe:
    host, port = host_and_port(source)
    if host == "localhost":
        # As the exchange does: localhost may resolve to ::1, where the agent does not listen.
        host = "127.0.0.1"
    if not host.replace(".", "").isdigit():
        # The requests resolve a host name within their timeout, and may use a proxy.
        return ServiceProbe()
    started = clock.now()
    try:
        with socket.create_connection((host, port), _CONNECT_SECONDS):
            return ServiceProbe(connect_seconds=clock.now() - started)
    except OSError as error:
        kind = kind_of(error)
        message = sanitize(error.strerror or str(error))
        if kind is ErrorKind.TIMEOUT:
            message = f"no connection within {_CONNECT_SECONDS:g} s"
        return ServiceProbe(connect_error=message, connect_kind=kind)


def host_and_port(source: TokenSource) -> tuple[str, int]:
    """Return the host and the port of the endpoint of ``source``."""
    parts = urlsplit(source.endpoint)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _with_metadata(
    probe: ServiceProbe, source: TokenSource, sender: RecordingSender
) -> ServiceProbe:
    parts = urlsplit(source.endpoint)
    url = f"{parts.scheme}://{parts.netloc}{_METADATA_PATH}{_METADATA_QUERY}"
    document: object = None
    try:
        response = sender(Request(url, {"Metadata": "true"}, seconds=_METADATA_SECONDS))
        body_start = sanitize(response.body[:2000].decode("utf-8", "replace"), 300)
        sender.records[-1] = sender.records[-1]._replace(body_start=body_start)
        document = response.json()
    except (TransportError, Failure, ValueError):
        pass
    document = document if isinstance(document, dict) else None
    return probe._replace(metadata=sender.records[-1], document=document)


def _with_token(
    probe: ServiceProbe,
    source: TokenSource,
    identity: Identity,
    resource: str,
    sender: RecordingSender,
) -> ServiceProbe:
    claims, failure = _request_token(source, identity, resource, sender)
    default_identity_works = None
    reasons = (Reason.IDENTITY_NOT_FOUND,)
    is_refused = failure is not None and (failure.status == 400 or failure.reason in reasons)
    if is_refused and identity.selector:
        default_claims, _ = _request_token(source, SYSTEM_ASSIGNED, resource, sender)
        default_identity_works = default_claims is not None
    return probe._replace(
        claims=claims, failure=failure, default_identity_works=default_identity_works
    )


def _request_token(
    source: TokenSource, identity: Identity, resource: str, sender: RecordingSender
) -> tuple[Mapping[str, object] | None, Failure | None]:
    seconds = sender.seconds_left
    runner = ExchangeRunner(
        sender, sender.clock, random=no_jitter, seconds=seconds, retry_options=once(seconds)
    )
    try:
        source.check_selector(identity)
        token = source.fetch(TokenRequest(resource, source.resolve(identity)), runner)
    except Failure as failure:
        return None, failure.copy()
    except ValueError as error:
        return None, Refused(sanitize(str(error)), reason=Reason.UNSUPPORTED)
    except OSError as error:
        problem = sanitize(error.strerror or str(error))
        return None, Unavailable(problem, reason=Reason.UNREACHABLE)
    return claims_in(token.value), None


def once(seconds: float = TOTAL_SECONDS) -> RetryOptions:
    """Return the options of requests that are sent once."""
    return RetryOptions(connect_seconds=_CONNECT_SECONDS, request_seconds=seconds, attempts=1)


def no_jitter() -> float:
    """Return the middle of the range of random numbers."""
    return 0.5


def _record(path: str, response: Response) -> RequestRecord:
    date = http_date(response.headers.get("date", ""))
    names = [name for name in _RECORDED_HEADERS if name in response.headers]
    return RequestRecord(
        path,
        response.status,
        {name: sanitize(response.headers[name], 200) for name in names},
        seconds=response.received_at - response.sent_at,
        clock_offset=None if date is None else response.received_wall - date,
    )
