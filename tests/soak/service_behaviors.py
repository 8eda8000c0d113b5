"""Behaviors of the service: each one writes a response to a token request.

A behavior returns whether the connection may be reused.
"""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, TypeAlias

from .shared_state import monotonic

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable

    from .connection import ClientConnection

_STALL_SECONDS = 40.0
_BOMB = gzip.compress(bytes(32 * 1024 * 1024), 9)
_HTML = b"<!doctype html><title>Sign in</title><form action=/login><input name=user></form>"

Behavior: TypeAlias = "Callable[[ClientConnection], Awaitable[bool]]"


async def valid_token(connection: ClientConnection) -> bool:
    return await connection.send_response(200, connection.token_factory.body(connection.request))


async def delayed_token(connection: ClientConnection) -> bool:
    body = connection.token_factory.body(connection.request)
    await connection.pause(connection.rng.uniform(0.05, 1.5))
    return await connection.send_response(200, body)


async def chunked_token(connection: ClientConnection) -> bool:
    body = connection.token_factory.body(connection.request)
    await connection.write(
        connection.head(200, "Content-Type: application/json", "Transfer-Encoding: chunked")
        + b"\r\n"
    )
    for start in range(0, len(body), 200):
        part = body[start : start + 200]
        await connection.write(b"%x;as=one\r\n%s\r\n" % (len(part), part))
    await connection.write(b"0\r\nTrailer: yes\r\n\r\n")
    return True


async def slow_token_body(connection: ClientConnection) -> bool:
    body = connection.token_factory.body(connection.request)
    await connection.write(
        connection.head(200, "Content-Type: application/json", f"Content-Length: {len(body)}")
        + b"\r\n"
    )
    for start in range(0, len(body), 100):
        await connection.write(body[start : start + 100])
        await connection.pause(connection.rng.uniform(0.1, 0.9))
    return True


async def token_after_100_continue(connection: ClientConnection) -> bool:
    await connection.write(b"HTTP/1.1 100 Continue\r\n\r\n" * connection.rng.randrange(1, 4))
    return await valid_token(connection)


def healthy(rng: random.Random) -> Behavior:
    """Return a behavior that returns a token, mostly the plain one."""
    rare: tuple[Behavior, ...] = (
        delayed_token, chunked_token, slow_token_body, token_after_100_continue,
    )  # fmt: skip
    return valid_token if rng.random() < 0.8 else rng.choice(rare)


async def throttled_429(connection: ClientConnection) -> bool:
    return await connection.send_error(429)


async def throttled_429_with_retry_after(connection: ClientConnection) -> bool:
    return await connection.send_error(429, f"Retry-After: {connection.rng.randrange(1, 4)}")


async def failed_500(connection: ClientConnection) -> bool:
    return await connection.send_error(500)


async def failed_503_with_retry_after(connection: ClientConnection) -> bool:
    return await connection.send_error(503, "Retry-After: 300")


async def not_found_404(connection: ClientConnection) -> bool:
    return await connection.send_error(404)


async def updating_410(connection: ClientConnection) -> bool:
    return await connection.send_error(410)


async def forbidden_403(connection: ClientConnection) -> bool:
    return await connection.send_error(403)


async def bad_request_400(connection: ClientConnection) -> bool:
    return await connection.send_error(400)


async def reset_connection(connection: ClientConnection) -> bool:
    return connection.reset()


async def reset_in_body(connection: ClientConnection) -> bool:
    body = connection.token_factory.body(connection.request)
    await connection.write(
        connection.head(200, "Content-Type: application/json", "Content-Length: 4000")
    )
    await connection.write(b"\r\n" + body[:100])
    return await reset_connection(connection)


async def stalled(connection: ClientConnection) -> bool:
    await connection.pause(_STALL_SECONDS)
    return False


async def stalled_in_body(connection: ClientConnection) -> bool:
    await connection.write(
        connection.head(200, "Content-Type: application/json", "Content-Length: 900")
    )
    await connection.write(b'\r\n{"access_token": "')
    return await stalled(connection)


async def _write_repeatedly(connection: ClientConnection, data: bytes, pause: float) -> bool:
    until = monotonic() + _STALL_SECONDS
    while monotonic() < until:
        await connection.write(data)
        await connection.pause(pause)
        connection.check_faults_last()
    return False


async def endless_100_continue(connection: ClientConnection) -> bool:
    return await _write_repeatedly(connection, b"HTTP/1.1 100 Continue\r\n\r\n", 0.05)


async def endless_103_early_hints(connection: ClientConnection) -> bool:
    return await _write_repeatedly(
        connection, b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 0.5
    )


async def endless_headers(connection: ClientConnection) -> bool:
    await connection.write(connection.head(200))
    return await _write_repeatedly(connection, b"X-More: yes\r\n", 1.0)


async def slow_status_line(connection: ClientConnection) -> bool:
    for byte in connection.head(200) * 2:
        await connection.write(bytes([byte]))
        await connection.pause(1.0)
        connection.check_faults_last()
    return False


async def endless_chunk_size(connection: ClientConnection) -> bool:
    await connection.write(connection.head(200, "Transfer-Encoding: chunked") + b"\r\n")
    return await _write_repeatedly(connection, b"0", 0.5)


async def endless_trailers(connection: ClientConnection) -> bool:
    body = connection.token_factory.body(connection.request)
    await connection.write(connection.head(200, "Transfer-Encoding: chunked") + b"\r\n")
    await connection.write(b"%x\r\n%s\r\n0\r\n" % (len(body), body))
    return await _write_repeatedly(connection, b"X-Trailer: yes\r\n", 0.5)


async def random_bytes(connection: ClientConnection) -> bool:
    await connection.write(connection.rng.randbytes(connection.rng.randrange(1, 3000)))
    return False


async def closed_without_response(connection: ClientConnection) -> bool:
    return False


async def empty_200(connection: ClientConnection) -> bool:
    return await connection.send_response(200, b"")


async def html_page(connection: ClientConnection) -> bool:
    return await connection.send_response(200, _HTML, content_type="text/html")


async def truncated_json(connection: ClientConnection) -> bool:
    body = connection.token_factory.body(connection.request)
    return await connection.send_response(200, body[: connection.rng.randrange(len(body))])


async def deeply_nested_json(connection: ClientConnection) -> bool:
    return await connection.send_response(200, b'{"a":' * 20_000)


async def decompression_bomb(connection: ClientConnection) -> bool:
    return await connection.send_response(200, _BOMB, "Content-Encoding: gzip")


async def oversized_body(connection: ClientConnection) -> bool:
    return await connection.send_response(200, b" " * 1_000_000)


async def redirect_302(connection: ClientConnection) -> bool:
    return await connection.send_error(302, f"Location: http://127.0.0.1:{connection.trap}/token")


async def expired_token(connection: ClientConnection) -> bool:
    past = str(int(connection.shared_state.service_time()) - 100)
    return await connection.send_invalid_token("expires_on is in the past", {"expires_on": past})


async def token_without_expiry(connection: ClientConnection) -> bool:
    return await connection.send_invalid_token(
        "no expiry", {"expires_on": None, "expires_in": None}
    )


async def token_for_another_identity(connection: ClientConnection) -> bool:
    if not connection.request.selector:
        return await valid_token(connection)
    return await connection.send_invalid_token(
        "another identity", {connection.request.selector: "another"}
    )


async def token_with_status_500(connection: ClientConnection) -> bool:
    return await connection.send_invalid_token("came with status 500", {}, status=500)


async def list_as_token(connection: ClientConnection) -> bool:
    return await connection.send_invalid_token("a list", {"access_token": ["eyJ"]})


async def token_with_line_feed(connection: ClientConnection) -> bool:
    return await connection.send_invalid_token(
        "a line feed", {"access_token": "a\r\nHost: another"}
    )


FAILING: tuple[Behavior, ...] = (
    throttled_429, failed_500, failed_503_with_retry_after, not_found_404, updating_410,
    reset_connection, stalled, endless_100_continue, endless_headers, closed_without_response,
    html_page, random_bytes,
)  # fmt: skip
"""Behaviors that can apply to every request of an outage."""

HOSTILE: tuple[Behavior, ...] = (
    *FAILING, throttled_429_with_retry_after, forbidden_403, bad_request_400, reset_in_body,
    stalled_in_body, endless_103_early_hints, slow_status_line, endless_chunk_size,
    endless_trailers, empty_200, truncated_json, deeply_nested_json, decompression_bomb,
    oversized_body, redirect_302, expired_token, token_without_expiry, token_for_another_identity,
    token_with_status_500, list_as_token, token_with_line_feed,
)  # fmt: skip
