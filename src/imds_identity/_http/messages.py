"""HTTP requests and responses, as exchanges see them."""

from __future__ import annotations

import copy
import json
from typing import NamedTuple

from .._core.failure import sanitize
from .._core.source import shown_url
from .._core.token_response import Fields
from .dates import http_date, retry_after_seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping
    from typing import TypeAlias

    from .._core.secret import Secret

    Auth: TypeAlias = Callable[["Request"], "Request"]

CONNECT_SECONDS = 2.0
"""Timeout of one attempt to connect, in seconds."""
REQUEST_SECONDS = 12.0
"""Timeout of a whole request, from resolving the name to the last byte of the response."""
MAX_BODY = 256 * 1024
"""Bytes of a response's body. A token response has about two thousand."""
RELAYED_BY_AZURE = "x-ms-azure-host-authorization"
"""A header of responses that Azure's guest proxy agent relayed."""
# OAuth 2 uses the first two, other Azure services the last two.
_ERROR_FIELDS = ("error", "error_description", "code", "message")
_SERVICE_CODE = r"\bAADSTS[0-9]{4,7}\b"


class ServerTls(NamedTuple):
    """How to verify a server, if not by its host name and the default certificate authorities.

    Attributes:
        context: trusts the server's certificate authority; None for the default ones.
        name: the name that the certificate must have and that is sent to the server (SNI); empty
            for the host name in the URL.
    """

    context: ssl.SSLContext | None
    name: str


class Request:
    """One HTTP request. Its repr hides parts of it that may be secret, such as values of headers.

    It is not a tuple: error trackers show the local variables of each stack frame, and print the
    items of tuples but not the attributes of objects.

    Attributes:
        url: the URL.
        headers: header fields; the transport reveals a `Secret`.
        method: the HTTP method.
        body: the body, if there is one.
        seconds: the timeout of the whole request; past it the attempt fails with `ReadFailed`.
        certificate: the SHA-1 fingerprint, in hexadecimal digits, that the server's certificate
            must have; empty for any certificate that the system trusts.
        auth: returns the request with its credentials, as in `requests`. The runner calls it
            immediately before each send.
        connect_seconds: the part of ``seconds`` for one attempt to connect.
        server_tls: how to verify the server, if not in the default way.
        over_internet: whether the request leaves this machine's network and therefore uses the
            proxies and certificates that the environment names.
        proxy: the URL of an http proxy for a request in plain http; empty for none.
        max_body: the size limit of a response's body in bytes; only plain http supports values
            other than `MAX_BODY`.
    """

    __slots__ = (
        "auth", "body", "certificate", "connect_seconds", "headers", "max_body", "method",
        "over_internet", "proxy", "seconds", "server_tls", "url",
    )  # fmt: skip

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str | Secret],
        method: str = "GET",
        body: bytes | None = None,
        seconds: float = REQUEST_SECONDS,
        certificate: str = "",
        auth: Auth | None = None,
        connect_seconds: float = CONNECT_SECONDS,
        *,
        over_internet: bool = False,
    ) -> None:
        self.url = url
        self.headers = headers
        self.method = method
        self.body = body
        self.seconds = seconds
        self.certificate = certificate
        self.auth = auth
        self.connect_seconds = connect_seconds
        self.over_internet = over_internet
        self.server_tls: ServerTls | None = None
        self.proxy = ""
        self.max_body = MAX_BODY

    def with_timeouts(self, connect_seconds: float | None, seconds: float | None) -> Request:
        """Return a copy of the request with other timeouts; None keeps the current one."""
        if connect_seconds is None and seconds is None:
            return self
        copied = copy.copy(self)
        copied.connect_seconds = connect_seconds or self.connect_seconds
        copied.seconds = seconds or self.seconds
        return copied

    @property
    def needs_own_tls(self) -> bool:
        """Whether only this package's adapter for `requests` can verify the server."""
        return bool(self.certificate or self.server_tls)

    def with_header(self, name: str, value: str | Secret) -> Request:
        """Return a copy of the request with this header."""
        copied = copy.copy(self)
        copied.headers = {**self.headers, name: value}
        return copied

    def __repr__(self) -> str:
        return f"Request({self.method} {shown_url(self.url)!r}, headers={sorted(self.headers)})"


class Response:
    """A response and its times. Its repr hides the body, which may be a token.

    Like `Request`, it is not a tuple.

    Attributes:
        status: the HTTP status.
        headers: header fields by lower-case name.
        body: the whole body; the transport limits its size.
        sent_at: ``Clock.now()`` just before the request was sent.
        received_at: ``Clock.now()`` when the response was complete.
        received_wall: ``Clock.wall()`` at the same moment.
    """

    __slots__ = (
        "_parsed", "body", "headers", "received_at", "received_wall", "sent_at", "status",
    )  # fmt: skip

    def __init__(
        self,
        status: int,
        headers: Mapping[str, str],
        body: bytes,
        sent_at: float,
        received_at: float,
        received_wall: float,
    ) -> None:
        self.status: int = status
        self.headers: Mapping[str, str] = headers
        self.body: bytes = body
        self.sent_at: float = sent_at
        self.received_at: float = received_at
        self.received_wall: float = received_wall
        self._parsed: object = None

    def __repr__(self) -> str:
        return f"Response({self.status}, {len(self.body)} bytes)"

    def json(self) -> object:
        """Return the body as JSON; ValueError if it is not JSON or is nested too deeply."""
        if self._parsed is not None:
            return self._parsed
        try:
            self._parsed = json.loads(self.body)
        except (ValueError, RecursionError):
            pass
        else:
            return self._parsed
        # Not inside the handler: the parser's own exception holds the whole text.
        raise ValueError("not JSON")

    def fields(self) -> Fields | None:
        """Return the fields of the JSON object in the body; None for another kind of JSON.

        Raise ValueError if it is not JSON.
        """
        values = self.json()
        return Fields(values) if isinstance(values, dict) else None

    @property
    def is_metadata_error(self) -> bool:
        """Whether it is a JSON object with an ``error``, as IMDS and the Arc agent return.

        Another cloud's metadata service, a proxy, or a captive portal returns something else.
        """
        return self.error_code is not None

    @property
    def error_code(self) -> str | None:
        """The ``error`` of a JSON body, or None."""
        try:
            code = (self.fields() or Fields({})).get("error")
        except ValueError:
            return None
        return code if isinstance(code, str) else None

    @property
    def error_text(self) -> str:
        """The service's error text for a message. Not for HTTP 200: that body is a token."""
        try:
            fields = self.fields() or Fields({})
            nested = fields.get("error")
            fields = Fields(nested) if isinstance(nested, dict) else fields
            parts = [fields.get(name) for name in _ERROR_FIELDS]
            text = ": ".join(str(part) for part in parts if part)
        except (ValueError, RecursionError):
            text = ""
        return sanitize(text or self.body.decode("utf-8", "replace")) or "nothing"

    @property
    def service_code(self) -> str:
        """Microsoft Entra ID's code in the error text, such as ``AADSTS500011``; else empty."""
        import re

        match = re.search(_SERVICE_CODE, self.error_text)
        return match[0] if match else ""

    @property
    def retry_after(self) -> float | None:
        """The seconds of ``Retry-After``, if the header is there and valid."""
        value = self.headers.get("retry-after", "")
        if not value:
            return None
        return retry_after_seconds(
            value, http_date(self.headers.get("date", "")) or self.received_wall
        )

    @property
    def is_redirect(self) -> bool:
        """Whether it is a redirect. Redirects are not followed: the metadata service sends none."""
        return 300 <= self.status < 400

    @property
    def is_markup(self) -> bool:
        """Whether the body is HTML or XML, which no token service returns."""
        return self.body.lstrip().startswith(b"<")

    @property
    def is_from_docker(self) -> bool:
        """Whether Docker Desktop responded in place of IMDS, with 403 and "unreachable"."""
        return self.status == 403 and "unreachable" in self.error_text.lower()

    @property
    def is_relayed_by_azure(self) -> bool:
        """Whether Azure's guest proxy agent relayed it from the host of the VM."""
        return RELAYED_BY_AZURE in self.headers

    @property
    def may_be_denial(self) -> bool:
        """Whether it looks like a denial by the guest proxy agent: an error without a body."""
        is_error = self.status in (403, 421) or self.status >= 500
        return is_error and not self.body.strip()

    @property
    def content(self) -> str:
        """Size and media type of the body, for a message."""
        kind = sanitize(self.headers.get("content-type", "")) or "unknown type"
        return f"{len(self.body)} bytes of {kind}"


def url_with(endpoint: str, query: Mapping[str, str]) -> str:
    """Return ``endpoint`` with ``query``, each value percent-encoded."""
    from urllib.parse import quote

    pairs = (f"{name}={quote(value, safe='')}" for name, value in query.items())
    return f"{endpoint}{'&' if '?' in endpoint else '?'}{'&'.join(pairs)}"
