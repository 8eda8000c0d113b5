"""A connection of aiohttp's server, for requests that are not valid HTTP."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aiohttp import web

from .._messages import Request

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .._messages import Response

_REQUEST_LINE = re.compile(r"([A-Z]{1,20}) (\S+)")
_MAX_LINE_LENGTH = 2048
_UNKNOWN_METHOD = "?"


class Connection(web.RequestHandler):
    """Passes requests that aiohttp cannot parse to a function, for a response."""

    def __init__(
        self,
        server: web.Server,
        reject: Callable[[Request], Response],
        send: Callable[[Response], web.Response],
        **options: Any,
    ) -> None:
        super().__init__(server, **options)
        self._reject = reject
        self._send_rejection = send
        self._first_data = b""

    def data_received(self, data: bytes) -> None:
        """Keep the first data, which starts with the request line of the first request."""
        if not self._first_data:
            self._first_data = data[:_MAX_LINE_LENGTH]
        super().data_received(data)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the response to a request that is not valid HTTP."""
        if status >= 500 or request.writer.output_size > 0:
            return super().handle_error(request, status, exc, message)
        response = self._reject(self._malformed(request.remote or ""))
        sent = self._send_rejection(response)
        sent.force_close()
        if response.finished is not None:
            response.finished(dict(sent.headers))
        return sent

    def _malformed(self, peer: str) -> Request:
        """Return what is known of the request: its request line, if it is the first one.

        Later data may start in the middle of a header with a secret.
        """
        line = self._first_data.partition(b"\n")[0].strip() if self._request_count <= 1 else b""
        text = line.decode("latin-1").encode("unicode_escape").decode()
        found = _REQUEST_LINE.match(text)
        method, target = found.groups() if found is not None else (_UNKNOWN_METHOD, text)
        return Request(method, target, target.partition("?")[0], peer=peer)
