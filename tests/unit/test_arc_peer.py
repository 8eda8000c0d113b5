"""Who may listen where Arc's secret goes."""

from __future__ import annotations

import builtins
import os
import socket
import struct
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_identity._core.failure import SecretUnreadable
from imds_identity._sources.arc import peer as listener
from imds_identity._sources.arc import peer_windows as listener_windows
from imds_identity._sources.arc.peer import confirm, owners

if TYPE_CHECKING:
    from collections.abc import Iterator

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc")

PORT = 40342
HEADER = b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n"
LOOPBACK, EVERY = b"0100007F", b"00000000"
MAPPED = b"0000000000000000FFFF0000"
EVERY_IPV6 = b"0" * 32


def row(address: bytes, uid: int, port: int = PORT, state: bytes = b"0A") -> bytes:
    return (
        b"   0: %s:%04X 00000000:0000 %s 00000000:00000000 00:00000000 00000000 %5d        0 1 1\n"
        % (address, port, state, uid)
    )


@pytest.mark.parametrize(
    ("tcp", "tcp6", "expected"),
    [
        ([row(LOOPBACK, 7)], [], {7}),
        ([row(EVERY, 7)], [], {7}),
        ([row(LOOPBACK, 7), row(EVERY, 8)], [], {7, 8}),
        ([row(LOOPBACK, 7), row(LOOPBACK, 8)], [], {7, 8}),
        ([], [row(MAPPED + LOOPBACK, 7)], {7}),
        ([], [row(MAPPED + EVERY, 7)], {7}),
        ([], [row(EVERY_IPV6, 7)], {7}),
        ([row(LOOPBACK, 7)], [row(MAPPED + EVERY, 8)], {7, 8}),
        # Beside a listener on IPv4 it can only be one for IPv6 alone.
        ([row(LOOPBACK, 7)], [row(EVERY_IPV6, 8)], {7}),
        ([row(LOOPBACK, 7, port=PORT + 1)], [], set()),
        ([row(LOOPBACK, 7, state=b"01")], [], set()),
        # A connection that somebody took before another listened there.
        ([row(LOOPBACK, 7), row(LOOPBACK, 8, state=b"01")], [], {7, 8}),
        ([row(EVERY, 7)], [row(MAPPED + LOOPBACK, 8, state=b"08")], {7, 8}),
        ([row(LOOPBACK, 7), row(LOOPBACK, 8, port=9, state=b"01")], [], {7}),
        ([row(b"0200007F", 7)], [row(b"0" * 24 + b"01000000", 7)], set()),
        ([], [], set()),
    ],
)
def test_all_possible_listeners_are_found(
    tcp: list[bytes], tcp6: list[bytes], expected: set[int]
) -> None:
    tables = [HEADER + b"".join(tcp), HEADER + b"".join(tcp6)]
    assert owners(PORT, tables, "little") == expected


def test_addresses_of_a_big_endian_machine_are_read() -> None:
    assert owners(PORT, [row(b"7F000001", 7)], "big") == {7}
    assert owners(PORT, [row(b"0" * 16 + b"0000FFFF7F000001", 7)], "big") == {7}
    assert owners(PORT, [row(b"7F000001", 7)], "little") == set()


@given(
    st.lists(
        st.binary(max_size=60)
        | st.text(alphabet="0123456789ABCDEF: \n").map(str.encode)
        | st.integers(0, 2**32).map(lambda uid: row(LOOPBACK, uid))
    ),
)
def test_any_bytes_are_parsed_without_error(lines: list[bytes]) -> None:
    assert all(uid >= 0 for uid in owners(PORT, [b"\n".join(lines)]))


@pytest.fixture
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_row_is_read_if_it_contains_a_user() -> None:
    fields = row(LOOPBACK, 7).split()
    assert owners(PORT, [b" ".join(fields[:8])], "little") == {7}
    assert owners(PORT, [b" ".join(fields[:7])], "little") == set()


@linux
def test_this_user_may_listen(listening: int) -> None:
    assert owners(listening, listener._tables()) == {os.geteuid()}
    confirm(listening)


@linux
def test_socket_on_every_address_is_found() -> None:
    with socket.create_server(("", 0)) as server:
        assert owners(server.getsockname()[1], listener._tables()) == {os.geteuid()}
    if not socket.has_dualstack_ipv6():
        return
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        assert owners(server.getsockname()[1], listener._tables()) == {os.geteuid()}


@pytest.fixture
def linux_anywhere(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(listener, "sys", SimpleNamespace(platform="linux"))
    monkeypatch.setattr(os, "geteuid", lambda: 1000, raising=False)
    monkeypatch.setattr(listener, "_agent_uid", lambda: 990)
    return monkeypatch


@pytest.mark.parametrize(("uid", "trusted"), [(0, 1), (990, 1), (1000, 1), (1001, 0), (65534, 0)])
def test_only_root_the_agent_and_this_user_are_trusted(
    linux_anywhere: pytest.MonkeyPatch, uid: int, trusted: int
) -> None:
    linux_anywhere.setattr(listener, "_tables", lambda: [row(LOOPBACK, uid)])
    if trusted:
        confirm(PORT)
        return
    with pytest.raises(
        SecretUnreadable, match=rf"port {PORT} of 127.0.0.1 is served by user {uid}"
    ):
        confirm(PORT)


def test_one_untrusted_listener_among_several_is_refused(
    linux_anywhere: pytest.MonkeyPatch,
) -> None:
    linux_anywhere.setattr(listener, "_tables", lambda: [row(LOOPBACK, 0) + row(EVERY, 1001)])
    with pytest.raises(SecretUnreadable, match="user 1001"):
        confirm(PORT)


def test_overflow_user_is_untrusted(
    linux_anywhere: pytest.MonkeyPatch,
) -> None:
    linux_anywhere.setattr(os, "geteuid", lambda: 65534)
    linux_anywhere.setattr(listener, "_tables", lambda: [row(LOOPBACK, 65534)])
    with pytest.raises(SecretUnreadable, match="user 65534"):
        confirm(PORT)


@pytest.mark.parametrize("error", [FileNotFoundError(), PermissionError()])
def test_unreadable_socket_tables_are_a_refusal(
    linux_anywhere: pytest.MonkeyPatch, error: OSError
) -> None:
    def denied(*args: Any, **kwargs: Any) -> Any:
        raise error

    linux_anywhere.setattr(builtins, "open", denied)
    with pytest.raises(SecretUnreadable, match=r"cannot determine which user listens.*container"):
        confirm(PORT)


@pytest.mark.parametrize(("name", "uid"), [("himds", 990), ("another", None)])
def test_agent_user_may_be_missing(
    monkeypatch: pytest.MonkeyPatch, name: str, uid: int | None
) -> None:
    pwd = pytest.importorskip("pwd")
    users = {name: SimpleNamespace(pw_uid=990)}
    monkeypatch.setattr(pwd, "getpwnam", lambda name: users[name])
    assert listener._agent_uid() == uid


def test_listener_is_not_checked_on_other_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(listener, "_tables", lambda: pytest.fail("a table was read"))
    confirm(PORT)


def table(*rows: bytes) -> bytes:
    return struct.pack("<I", len(rows)) + b"".join(rows)


def ipv4_row(address: str, process: int, port: int = PORT) -> bytes:
    number = int.from_bytes(socket.inet_aton(address), "little")
    return struct.pack("<6I", 2, number, socket.htons(port), 0, 0, process)


def ipv6_row(address: str, process: int, port: int = PORT) -> bytes:
    packed = socket.inet_pton(socket.AF_INET6, address)
    return struct.pack("<16sII16sIIII", packed, 0, socket.htons(port), bytes(16), 0, 0, 2, process)


little = pytest.mark.skipif(sys.byteorder != "little", reason="Windows is little-endian")


@little
@pytest.mark.parametrize(
    ("ipv4", "ipv6", "expected"),
    [
        ([ipv4_row("127.0.0.1", 7)], [], {7}),
        ([ipv4_row("0.0.0.0", 7), ipv4_row("127.0.0.1", 8)], [], {7, 8}),
        ([ipv4_row("10.0.0.1", 7), ipv4_row("127.0.0.1", 8, port=1)], [], set()),
        ([], [ipv6_row("::", 7), ipv6_row("::1", 8)], {7}),
        ([], [ipv6_row("::ffff:127.0.0.1", 7)], {7}),
        ([ipv4_row("127.0.0.1", 7)], [ipv6_row("::", 8)], {7}),
    ],
)
def test_windows_tables_contain_processes(
    ipv4: list[bytes], ipv6: list[bytes], expected: set[int]
) -> None:
    assert listener_windows.listening(PORT, table(*ipv4), table(*ipv6)) == expected


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_truncated_windows_tables_are_read_partially(ipv4: bytes, ipv6: bytes) -> None:
    assert isinstance(listener_windows.listening(PORT, ipv4, ipv6), set)


@pytest.mark.parametrize(
    ("process", "trusted"), [(7, True), (8, True), (9, True), (10, False), (11, False)]
)
def test_service_system_and_this_user_are_trusted_on_windows(
    monkeypatch: pytest.MonkeyPatch, process: int, trusted: bool
) -> None:
    users = {8: "S-1-5-18", 9: "S-1-5-21-1-1001", 10: "S-1-5-21-1-1002", 11: "", None: ""}
    users[None] = users[9]
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(listener_windows, "_service_process", lambda: 7)
    monkeypatch.setattr(listener_windows, "user_of", lambda process=None: users[process])
    monkeypatch.setattr(listener_windows, "owners", lambda port: {process})
    if trusted:
        confirm(PORT)
        return
    with pytest.raises(SecretUnreadable, match=f"is served by process {process}"):
        confirm(PORT)


def test_unknown_user_is_untrusted_on_windows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listener_windows, "_service_process", lambda: None)
    monkeypatch.setattr(listener_windows, "user_of", lambda process=None: "")
    assert not listener_windows.is_trusted(7)


@pytest.mark.skipif(sys.platform != "win32", reason="asks Windows")
def test_windows_returns_the_process_of_a_socket() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert listener_windows.owners(port) == {os.getpid()}
        confirm(port)
    assert listener_windows.owners(port) == set()
