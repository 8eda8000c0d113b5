"""Asks the service: a connection, its metadata and a token, one after the other and no more.

All of it together takes less than five seconds and eight requests, and keeps no token.
"""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..._core.claims import claims_in
from ..._core.failure import Failure, Reason, Refused, Unavailable, sanitize
from ..._core.identity import SYSTEM_ASSIGNED
from ..._core.token_request import TokenRequest
from ..._http.exchange import ConnectFailed, Request, Response, TransportError
from ..._http.retry import http_date
from ..._http.retry_options import RetryOptions
from ..._http.runner import ExchangeRunner
from ..._http.transport import direct_sender
from ..._sources.sources import ArcSource, ImdsSource
from .facts import Contact, Exchanged

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..._core.identity import Identity
    from ..._http.runner import Sender
    from ..._platform.clock import Clock
    from ..._sources.sources import TokenSource

MOST_REQUESTS = 8
SECONDS = 4.0
"""For all that is asked; what does not answer in this time does not answer."""
_CONNECT_SECONDS = 1.5
_METADATA_SECONDS = 1.5
_LEAST_SECONDS = 0.1
_METADATA_PATH = "/metadata/instance"
_METADATA_QUERY = "?api-version=2020-06-01"
# What tells who answered. No other header is kept: cookies and the like are nobody's business.
_TELLING = (
    "connection", "content-type", "date", "location", "metadata-flavor", "proxy-authenticate",
    "retry-after", "server", "via", "www-authenticate", "x-cache", "x-envoy-upstream-service-time",
)  # fmt: skip
_REFUSED = (errno.ECONNREFUSED, 10061)


class Witness:
    """Sends for a channel, and remembers what came of it.

    Args:
        send: does the sending.
        clock: times it.
        end: when all must be over, by that clock.
    """

    def __init__(self, send: Sender, clock: Clock, end: float) -> None:
        self._send = send
        self._clock = clock
        self._end = end
        self.seen: list[Exchanged] = []

    @property
    def left(self) -> float:
        """Seconds that are left for all that is still to be asked."""
        return self._end - self._clock.now()

    def __call__(self, request: Request) -> Response:
        """Send ``request``.

        Raises:
            TransportError: if there is no answer.
        """
        if len(self.seen) >= MOST_REQUESTS:
            raise ConnectFailed(f"the doctor asks no more than {MOST_REQUESTS} times")
        if self.left < _LEAST_SECONDS:
            raise ConnectFailed(f"the doctor asks no longer than {SECONDS:g} s")
        path = urlsplit(request.url).path
        started = self._clock.now()
        bounded = request.with_timeouts(min(request.connect_seconds, self.left), self.left)
        try:
            response = self._send(bounded)
        except (TransportError, Failure) as error:
            seconds = self._clock.now() - started
            unreached = isinstance(error, ConnectFailed)
            self.seen.append(
                Exchanged(path, problem=sanitize(str(error)), seconds=seconds, unreached=unreached)
            )
            raise
        self.seen.append(_exchanged(path, response))
        return response


def contact_with(
    source: TokenSource, identity: Identity, resource: str, clock: Clock, *, resting: bool
) -> Contact:
    """What comes of asking ``source``.

    Args:
        source: whom.
        identity: whose token to ask for.
        resource: what for.
        clock: times it.
        resting: whether the service asked this machine to rest: then no token is asked for.
    """
    end = clock.now() + SECONDS
    contact = _connected(source, clock)
    if contact.connect_problem:
        return contact
    with direct_sender(clock) as send:
        witness = Witness(send, clock, end)
        if isinstance(source, ArcSource | ImdsSource):
            contact = _with_metadata(contact, source, witness)
        if not resting:
            contact = _with_token(contact, source, identity, resource, witness, clock)
        return _judged(contact, tuple(witness.seen))


def _judged(contact: Contact, requests: tuple[Exchanged, ...]) -> Contact:
    """The contact with its requests, which tell of the connection where it was not tried before."""
    problem = contact.connect_problem
    if requests and all(request.unreached for request in requests):
        problem = requests[-1].problem
    return contact._replace(requests=requests, connect_problem=problem)


def _connected(source: TokenSource, clock: Clock) -> Contact:
    parts = urlsplit(source.endpoint)
    if not _is_here(parts.hostname):
        return Contact()  # a name: requests look it up in bounded time, and maybe by a proxy
    port = parts.port or (443 if parts.scheme == "https" else 80)
    # As its exchange does: the name may lead to ::1, where the agent does not listen.
    host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname or ""
    started = clock.now()
    try:
        with socket.create_connection((host, port), _CONNECT_SECONDS):
            return Contact(connect_seconds=clock.now() - started)
    except TimeoutError:
        return Contact(connect_problem=f"no connection within {_CONNECT_SECONDS:g} s")
    except OSError as error:
        words = sanitize(error.strerror or str(error))
        return Contact(connect_problem=words, refused=error.errno in _REFUSED)


def _is_here(host: str | None) -> bool:
    return host is not None and (host == "localhost" or host.replace(".", "").isdigit())


def _with_metadata(contact: Contact, source: TokenSource, witness: Witness) -> Contact:
    parts = urlsplit(source.endpoint)
    url = f"{parts.scheme}://{parts.netloc}{_METADATA_PATH}{_METADATA_QUERY}"
    document: Any = None
    try:
        response = witness(Request(url, {"Metadata": "true"}, seconds=_METADATA_SECONDS))
        witness.seen[-1] = witness.seen[-1]._replace(words=_beginning(response))
        document = response.json()
    except (TransportError, Failure, ValueError):
        pass
    return contact._replace(
        metadata=witness.seen[-1], document=document if isinstance(document, dict) else None
    )


def _with_token(
    contact: Contact,
    source: TokenSource,
    identity: Identity,
    resource: str,
    witness: Witness,
    clock: Clock,
) -> Contact:
    claims, failure = _asked(source, identity, resource, witness, clock)
    default_works = None
    if failure is not None and failure.status == 400 and identity.selector:
        claims_of_default, _ = _asked(source, SYSTEM_ASSIGNED, resource, witness, clock)
        default_works = claims_of_default is not None
    return contact._replace(claims=claims, failure=failure, default_works=default_works)


def _asked(
    source: TokenSource, identity: Identity, resource: str, witness: Witness, clock: Clock
) -> tuple[Mapping[str, Any] | None, Failure | None]:
    retry_options = RetryOptions(
        connect_seconds=_CONNECT_SECONDS, request_seconds=witness.left, attempts=1
    )
    runner = ExchangeRunner(
        witness, clock, random=_middle, seconds=witness.left, retry_options=retry_options
    )
    try:
        source.check_selector(identity)
        token = source.fetch(TokenRequest(resource, identity), runner)
    except Failure as failure:
        return None, failure.copy()
    except ValueError as error:
        return None, Refused(sanitize(str(error)), reason=Reason.UNSUPPORTED)
    except OSError as error:
        problem = sanitize(error.strerror or str(error))
        return None, Unavailable(problem, reason=Reason.UNREACHABLE)
    return claims_in(token.value), None


def _middle() -> float:
    return 0.5


def _exchanged(path: str, response: Response) -> Exchanged:
    date = http_date(response.headers.get("date", ""))
    return Exchanged(
        path,
        response.status,
        {
            name: sanitize(response.headers[name], 200)
            for name in _TELLING
            if name in response.headers
        },
        seconds=response.received_at - response.sent_at,
        ahead=None if date is None else response.received_wall - date,
    )


def _beginning(response: Response) -> str:
    return sanitize(response.body[:2000].decode("utf-8", "replace"), 300)
