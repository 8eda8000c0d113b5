"""IMDS and a service that exchanges its tokens, in this process; and tokens with claims."""

from __future__ import annotations

import base64
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from support import ResponseFactory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imds_identity._http.messages import Request, Response
    from imds_identity._platform.clock import Clock


def jwt_of(**claims: object) -> str:
    """Return an unsigned token with these claims."""
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"header.{payload}.signature"


class FakeServices:
    """Responds to requests in place of `imds_identity._http.transport.direct_sender`."""

    @contextmanager
    def sender(self, clock: Clock) -> Iterator[Any]:
        def send(request: Request) -> Response:
            status, fields = self.respond(request)
            return ResponseFactory(clock).json(status, fields)

        yield send

    def respond(self, request: Request) -> tuple[int, dict[str, object]]:
        """Return the status and the JSON fields of the response."""
        raise NotImplementedError
