"""A client's connection to the token endpoint, without a server."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_identity._endpoint.connection import ClientConnection
from imds_identity._endpoint.responses import Refusal

LIMIT = 12 * 1024
START = b"GET /msi/token HTTP/1.1\r\nHost: localhost\r\nX: "
END = b"\r\n\r\n"


class Peer:
    """A socket that receives the given segments."""

    def __init__(self, segments: list[bytes]) -> None:
        self._segments = segments

    def recv(self, size: int) -> bytes:
        data = self._segments[0]
        self._segments[0] = data[size:]
        if not self._segments[0]:
            del self._segments[0]
        return data[:size]


def received(*segments: bytes) -> Any:
    """Return the request from these segments."""
    left = [each for each in segments if each]
    peer: Any = Peer(left)
    connection = ClientConnection(peer, frozenset({"localhost"}), None, 0.0)
    while left:
        if (request := connection.receive()) is not None:
            return request
    raise AssertionError("the head is not complete")


def head(size: int) -> bytes:
    return START + b"x" * (size - len(START + END)) + END


@given(st.integers(0, LIMIT), st.integers(-2000, 4000), st.sampled_from([b"", b"y" * 3000]))
def test_size_of_the_head_is_limited_in_any_segments(split: int, over: int, body: bytes) -> None:
    data = head(LIMIT + over)
    if over <= 0:
        assert received(data[:split], data[split:] + body).target == "/msi/token"
        return
    with pytest.raises(Refusal) as caught:
        received(data[:split], data[split:] + body)
    assert caught.value.response.status == 431


@pytest.mark.parametrize(("size", "fits"), [(LIMIT, True), (LIMIT + 1, False)])
def test_limit_is_exact_for_a_head_in_one_segment(size: int, fits: bool) -> None:
    if fits:
        assert received(head(size)).method == "GET"
        return
    with pytest.raises(Refusal):
        received(head(size))
