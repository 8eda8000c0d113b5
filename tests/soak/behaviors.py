"""How a service may answer: each manner writes to the socket what it likes.

A manner gives whether the connection may be used again.
"""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, TypeAlias

from .shared_state import steady

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable

    from .connection import ClientConnection

_LONG = 40.0
_BOMB = gzip.compress(bytes(32 * 1024 * 1024), 9)
_HTML = b"<!doctype html><title>Sign in</title><form action=/login><input name=user></form>"

Behavior: TypeAlias = "Callable[[ClientConnection], Awaitable[bool]]"


async def answered_well(connection: ClientConnection) -> bool:
    return await connection.answer(200, connection.token_factory.body(connection.wanted))


async def answered_late(connection: ClientConnection) -> bool:
    body = connection.token_factory.body(connection.wanted)
    await connection.hold(connection.dice.uniform(0.05, 1.5))
    return await connection.answer(200, body)


async def answered_in_chunks(connection: ClientConnection) -> bool:
    body = connection.token_factory.body(connection.wanted)
    await connection.write(
        connection.head(200, "Content-Type: application/json", "Transfer-Encoding: chunked")
        + b"\r\n"
    )
    for start in range(0, len(body), 200):
        part = body[start : start + 200]
        await connection.write(b"%x;as=one\r\n%s\r\n" % (len(part), part))
    await connection.write(b"0\r\nTrailer: yes\r\n\r\n")
    return True


async def answered_in_drips(connection: ClientConnection) -> bool:
    body = connection.token_factory.body(connection.wanted)
    await connection.write(
        connection.head(200, "Content-Type: application/json", f"Content-Length: {len(body)}")
        + b"\r\n"
    )
    for start in range(0, len(body), 100):
        await connection.write(body[start : start + 100])
        await connection.hold(connection.dice.uniform(0.1, 0.9))
    return True


async def answered_after_continue(connection: ClientConnection) -> bool:
    await connection.write(b"HTTP/1.1 100 Continue\r\n\r\n" * connection.dice.randrange(1, 4))
    return await answered_well(connection)


def sound(dice: random.Random) -> Behavior:
    """A manner in which a token is had."""
    rare: tuple[Behavior, ...] = (
        answered_late, answered_in_chunks, answered_in_drips, answered_after_continue,
    )  # fmt: skip
    return answered_well if dice.random() < 0.8 else dice.choice(rare)


async def throttled(connection: ClientConnection) -> bool:
    return await connection.say(429)


async def throttled_for_a_while(connection: ClientConnection) -> bool:
    return await connection.say(429, f"Retry-After: {connection.dice.randrange(1, 4)}")


async def failed_500(connection: ClientConnection) -> bool:
    return await connection.say(500)


async def failed_503_with_retry_after(connection: ClientConnection) -> bool:
    return await connection.say(503, "Retry-After: 300")


async def missing_404(connection: ClientConnection) -> bool:
    return await connection.say(404)


async def updating_410(connection: ClientConnection) -> bool:
    return await connection.say(410)


async def refused_403(connection: ClientConnection) -> bool:
    return await connection.say(403)


async def bad_request_400(connection: ClientConnection) -> bool:
    return await connection.say(400)


async def reset(connection: ClientConnection) -> bool:
    return connection.reset()


async def reset_in_the_body(connection: ClientConnection) -> bool:
    body = connection.token_factory.body(connection.wanted)
    await connection.write(
        connection.head(200, "Content-Type: application/json", "Content-Length: 4000")
    )
    await connection.write(b"\r\n" + body[:100])
    return await reset(connection)


async def stalled(connection: ClientConnection) -> bool:
    await connection.hold(_LONG)
    return False


async def stalled_in_the_body(connection: ClientConnection) -> bool:
    await connection.write(
        connection.head(200, "Content-Type: application/json", "Content-Length: 900")
    )
    await connection.write(b'\r\n{"access_token": "')
    return await stalled(connection)


async def _again_and_again(connection: ClientConnection, data: bytes, pause: float) -> bool:
    until = steady() + _LONG
    while steady() < until:
        await connection.write(data)
        await connection.hold(pause)
        connection.go_on()
    return False


async def continued_without_end(connection: ClientConnection) -> bool:
    return await _again_and_again(connection, b"HTTP/1.1 100 Continue\r\n\r\n", 0.05)


async def hinted_without_end(connection: ClientConnection) -> bool:
    return await _again_and_again(
        connection, b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 0.5
    )


async def headers_without_end(connection: ClientConnection) -> bool:
    await connection.write(connection.head(200))
    return await _again_and_again(connection, b"X-More: yes\r\n", 1.0)


async def dripped_status_line(connection: ClientConnection) -> bool:
    for byte in connection.head(200) * 2:
        await connection.write(bytes([byte]))
        await connection.hold(1.0)
        connection.go_on()
    return False


async def dripped_chunk_size(connection: ClientConnection) -> bool:
    await connection.write(connection.head(200, "Transfer-Encoding: chunked") + b"\r\n")
    return await _again_and_again(connection, b"0", 0.5)


async def dripped_trailers(connection: ClientConnection) -> bool:
    body = connection.token_factory.body(connection.wanted)
    await connection.write(connection.head(200, "Transfer-Encoding: chunked") + b"\r\n")
    await connection.write(b"%x\r\n%s\r\n0\r\n" % (len(body), body))
    return await _again_and_again(connection, b"X-Trailer: yes\r\n", 0.5)


async def garbage(connection: ClientConnection) -> bool:
    await connection.write(connection.dice.randbytes(connection.dice.randrange(1, 3000)))
    return False


async def nothing_at_all(connection: ClientConnection) -> bool:
    return False


async def empty_200(connection: ClientConnection) -> bool:
    return await connection.answer(200, b"")


async def html(connection: ClientConnection) -> bool:
    return await connection.answer(200, _HTML, kind="text/html")


async def truncated_json(connection: ClientConnection) -> bool:
    body = connection.token_factory.body(connection.wanted)
    return await connection.answer(200, body[: connection.dice.randrange(len(body))])


async def deep_json(connection: ClientConnection) -> bool:
    return await connection.answer(200, b'{"a":' * 20_000)


async def inflated(connection: ClientConnection) -> bool:
    return await connection.answer(200, _BOMB, "Content-Encoding: gzip")


async def too_large(connection: ClientConnection) -> bool:
    return await connection.answer(200, b" " * 1_000_000)


async def redirected(connection: ClientConnection) -> bool:
    return await connection.say(302, f"Location: http://127.0.0.1:{connection.trap}/token")


async def token_that_has_expired(connection: ClientConnection) -> bool:
    past = str(int(connection.shared_state.service_wall()) - 100)
    return await connection.token("expires_on is in the past", {"expires_on": past})


async def token_without_expiry(connection: ClientConnection) -> bool:
    return await connection.token("no expiry", {"expires_on": None, "expires_in": None})


async def token_of_another_identity(connection: ClientConnection) -> bool:
    if not connection.wanted.selector:
        return await answered_well(connection)
    return await connection.token("another identity", {connection.wanted.selector: "another"})


async def token_with_an_error(connection: ClientConnection) -> bool:
    return await connection.token("came with status 500", {}, status=500)


async def no_string_for_a_token(connection: ClientConnection) -> bool:
    return await connection.token("a list", {"access_token": ["eyJ"]})


async def token_with_a_line_feed(connection: ClientConnection) -> bool:
    return await connection.token("a line feed", {"access_token": "a\r\nHost: another"})


FAILING: tuple[Behavior, ...] = (
    throttled, failed_500, failed_503_with_retry_after, missing_404, updating_410, reset, stalled,
    continued_without_end, headers_without_end, nothing_at_all, html, garbage,
)  # fmt: skip
"""What a service may do to all, for as long as an outage lasts."""

HOSTILE: tuple[Behavior, ...] = (
    *FAILING, throttled_for_a_while, refused_403, bad_request_400, reset_in_the_body,
    stalled_in_the_body, hinted_without_end, dripped_status_line, dripped_chunk_size,
    dripped_trailers, empty_200, truncated_json, deep_json, inflated, too_large, redirected,
    token_that_has_expired, token_without_expiry, token_of_another_identity, token_with_an_error,
    no_string_for_a_token, token_with_a_line_feed,
)  # fmt: skip
