"""How a service may answer: each manner writes to the socket what it likes.

A manner gives whether the connection may be used again.
"""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, TypeAlias

from .board import steady

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable

    from .visit import Visit

_LONG = 40.0
_BOMB = gzip.compress(bytes(32 * 1024 * 1024), 9)
_HTML = b"<!doctype html><title>Sign in</title><form action=/login><input name=user></form>"

Manner: TypeAlias = "Callable[[Visit], Awaitable[bool]]"


async def answered_well(visit: Visit) -> bool:
    return await visit.answer(200, visit.mint.body(visit.wanted))


async def answered_late(visit: Visit) -> bool:
    body = visit.mint.body(visit.wanted)
    await visit.hold(visit.dice.uniform(0.05, 1.5))
    return await visit.answer(200, body)


async def answered_in_chunks(visit: Visit) -> bool:
    body = visit.mint.body(visit.wanted)
    await visit.write(
        visit.head(200, "Content-Type: application/json", "Transfer-Encoding: chunked") + b"\r\n"
    )
    for start in range(0, len(body), 200):
        part = body[start : start + 200]
        await visit.write(b"%x;as=one\r\n%s\r\n" % (len(part), part))
    await visit.write(b"0\r\nTrailer: yes\r\n\r\n")
    return True


async def answered_in_drips(visit: Visit) -> bool:
    body = visit.mint.body(visit.wanted)
    await visit.write(
        visit.head(200, "Content-Type: application/json", f"Content-Length: {len(body)}") + b"\r\n"
    )
    for start in range(0, len(body), 100):
        await visit.write(body[start : start + 100])
        await visit.hold(visit.dice.uniform(0.1, 0.9))
    return True


async def answered_after_continue(visit: Visit) -> bool:
    await visit.write(b"HTTP/1.1 100 Continue\r\n\r\n" * visit.dice.randrange(1, 4))
    return await answered_well(visit)


def sound(dice: random.Random) -> Manner:
    """A manner in which a token is had."""
    rare: tuple[Manner, ...] = (
        answered_late, answered_in_chunks, answered_in_drips, answered_after_continue,
    )  # fmt: skip
    return answered_well if dice.random() < 0.8 else dice.choice(rare)


async def throttled(visit: Visit) -> bool:
    return await visit.say(429)


async def throttled_for_a_while(visit: Visit) -> bool:
    return await visit.say(429, f"Retry-After: {visit.dice.randrange(1, 4)}")


async def failed_500(visit: Visit) -> bool:
    return await visit.say(500)


async def failed_503_with_retry_after(visit: Visit) -> bool:
    return await visit.say(503, "Retry-After: 300")


async def missing_404(visit: Visit) -> bool:
    return await visit.say(404)


async def updating_410(visit: Visit) -> bool:
    return await visit.say(410)


async def refused_403(visit: Visit) -> bool:
    return await visit.say(403)


async def bad_request_400(visit: Visit) -> bool:
    return await visit.say(400)


async def reset(visit: Visit) -> bool:
    return visit.reset()


async def reset_in_the_body(visit: Visit) -> bool:
    body = visit.mint.body(visit.wanted)
    await visit.write(visit.head(200, "Content-Type: application/json", "Content-Length: 4000"))
    await visit.write(b"\r\n" + body[:100])
    return await reset(visit)


async def stalled(visit: Visit) -> bool:
    await visit.hold(_LONG)
    return False


async def stalled_in_the_body(visit: Visit) -> bool:
    await visit.write(visit.head(200, "Content-Type: application/json", "Content-Length: 900"))
    await visit.write(b'\r\n{"access_token": "')
    return await stalled(visit)


async def _again_and_again(visit: Visit, data: bytes, pause: float) -> bool:
    until = steady() + _LONG
    while steady() < until:
        await visit.write(data)
        await visit.hold(pause)
        visit.go_on()
    return False


async def continued_without_end(visit: Visit) -> bool:
    return await _again_and_again(visit, b"HTTP/1.1 100 Continue\r\n\r\n", 0.05)


async def hinted_without_end(visit: Visit) -> bool:
    return await _again_and_again(visit, b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 0.5)


async def headers_without_end(visit: Visit) -> bool:
    await visit.write(visit.head(200))
    return await _again_and_again(visit, b"X-More: yes\r\n", 1.0)


async def dripped_status_line(visit: Visit) -> bool:
    for byte in visit.head(200) * 2:
        await visit.write(bytes([byte]))
        await visit.hold(1.0)
        visit.go_on()
    return False


async def dripped_chunk_size(visit: Visit) -> bool:
    await visit.write(visit.head(200, "Transfer-Encoding: chunked") + b"\r\n")
    return await _again_and_again(visit, b"0", 0.5)


async def dripped_trailers(visit: Visit) -> bool:
    body = visit.mint.body(visit.wanted)
    await visit.write(visit.head(200, "Transfer-Encoding: chunked") + b"\r\n")
    await visit.write(b"%x\r\n%s\r\n0\r\n" % (len(body), body))
    return await _again_and_again(visit, b"X-Trailer: yes\r\n", 0.5)


async def garbage(visit: Visit) -> bool:
    await visit.write(visit.dice.randbytes(visit.dice.randrange(1, 3000)))
    return False


async def nothing_at_all(visit: Visit) -> bool:
    return False


async def empty_200(visit: Visit) -> bool:
    return await visit.answer(200, b"")


async def html(visit: Visit) -> bool:
    return await visit.answer(200, _HTML, kind="text/html")


async def truncated_json(visit: Visit) -> bool:
    body = visit.mint.body(visit.wanted)
    return await visit.answer(200, body[: visit.dice.randrange(len(body))])


async def deep_json(visit: Visit) -> bool:
    return await visit.answer(200, b'{"a":' * 20_000)


async def inflated(visit: Visit) -> bool:
    return await visit.answer(200, _BOMB, "Content-Encoding: gzip")


async def too_large(visit: Visit) -> bool:
    return await visit.answer(200, b" " * 1_000_000)


async def redirected(visit: Visit) -> bool:
    return await visit.say(302, f"Location: http://127.0.0.1:{visit.trap}/token")


async def token_that_has_expired(visit: Visit) -> bool:
    past = str(int(visit.board.service_wall()) - 100)
    return await visit.token("expires_on is in the past", {"expires_on": past})


async def token_without_expiry(visit: Visit) -> bool:
    return await visit.token("no expiry", {"expires_on": None, "expires_in": None})


async def token_of_another_identity(visit: Visit) -> bool:
    if not visit.wanted.selector:
        return await answered_well(visit)
    return await visit.token("another identity", {visit.wanted.selector: "another"})


async def token_with_an_error(visit: Visit) -> bool:
    return await visit.token("came with status 500", {}, status=500)


async def no_string_for_a_token(visit: Visit) -> bool:
    return await visit.token("a list", {"access_token": ["eyJ"]})


async def token_with_a_line_feed(visit: Visit) -> bool:
    return await visit.token("a line feed", {"access_token": "a\r\nHost: another"})


FAILING: tuple[Manner, ...] = (
    throttled, failed_500, failed_503_with_retry_after, missing_404, updating_410, reset, stalled,
    continued_without_end, headers_without_end, nothing_at_all, html, garbage,
)  # fmt: skip
"""What a service may do to all, for as long as an outage lasts."""

HOSTILE: tuple[Manner, ...] = (
    *FAILING, throttled_for_a_while, refused_403, bad_request_400, reset_in_the_body,
    stalled_in_the_body, hinted_without_end, dripped_status_line, dripped_chunk_size,
    dripped_trailers, empty_200, truncated_json, deep_json, inflated, too_large, redirected,
    token_that_has_expired, token_without_expiry, token_of_another_identity, token_with_an_error,
    no_string_for_a_token, token_with_a_line_feed,
)  # fmt: skip
