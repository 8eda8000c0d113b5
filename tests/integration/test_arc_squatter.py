"""Another user of the machine listens where the agent should, and relays what it says."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.pipeline.transport import AioHttpTransport

from imds_identity import ManagedIdentityCredential, aio
from imds_identity._sources.arc import key_file as secret_file
from imds_identity.errors import ArcSecretError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from imds_identity.emulator import Emulator

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root can be another user"
)
NOBODY = 65534
TOKEN = "/metadata/identity/oauth2/token"


def relay(listener: socket.socket, agent: tuple[str, int]) -> None:
    """Hand every request to the agent, and its answer back."""
    while True:
        client, _ = listener.accept()
        with client, socket.create_connection(agent) as server:
            client.settimeout(0.2)
            server.settimeout(0.2)
            for source, sink in ((client, server), (server, client)) * 3:
                try:
                    sink.sendall(source.recv(65536))
                except OSError:
                    continue


@contextlib.contextmanager
def squatter(work: Callable[[socket.socket], object]) -> Iterator[int]:
    """The port of somebody who is nobody, and does ``work`` with a listener."""
    "loaded".encode("idna")  # while its file can still be read: nobody may not look into a home
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            listener = socket.create_server(("127.0.0.1", 0))
            os.write(writing, str(listener.getsockname()[1]).encode())
            work(listener)
        finally:
            os._exit(1)
    os.close(writing)
    port = int(os.read(reading, 10))
    os.close(reading)
    try:
        yield port
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


@pytest.fixture
def squatted(arc_emulator: Emulator) -> Iterator[int]:
    """The port of a squatter who relays."""
    host, _, port = arc_emulator.endpoint.removeprefix("http://").partition("/")[0].partition(":")
    with squatter(lambda listener: relay(listener, (host, int(port)))) as squatted:
        yield squatted


def test_process_on_arcs_port_gets_no_secret_and_no_key_file_is_read(
    arc_emulator: Emulator, squatted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Any] = []
    monkeypatch.setattr(secret_file, "read_secret", lambda *given: read.append(given))
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"http://localhost:{squatted}{TOKEN}")
    credential = ManagedIdentityCredential(
        arc_tokens_directory=str(arc_emulator.tokens_directory), cache="off"
    )
    served = f"port {squatted} of 127.0.0.1 is served by user {NOBODY}"
    with pytest.raises(ArcSecretError, match=served):
        credential.get_token("https://vault.azure.net/.default")
    assert read == []
    assert [request.status for request in arc_emulator.token_requests] == [401]


def test_process_that_left_the_port_gets_no_secret_on_its_open_connection(
    arc_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    realm = f"{arc_emulator.tokens_directory}/a.key"
    Path(realm).write_text("s3cret")
    told, telling = socket.socketpair()

    def make_room(listener: socket.socket) -> None:
        client, _ = listener.accept()
        client.recv(65536)
        listener.close()
        told.send(b"gone")
        told.recv(1)
        client.sendall(
            f"HTTP/1.1 401 x\r\nWWW-Authenticate: Basic realm={realm}\r\n"
            "Content-Length: 0\r\n\r\n".encode()
        )
        told.send(client.recv(65536) or b"nothing")

    async def token() -> str:
        async with aio.ManagedIdentityCredential(
            arc_tokens_directory=str(arc_emulator.tokens_directory),
            cache="off",
            transport=AioHttpTransport(),
        ) as credential:
            return (await credential.get_token("https://vault.azure.net/.default")).token

    with told, telling, squatter(make_room) as port:
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"http://localhost:{port}{TOKEN}")

        def agent_starts() -> None:
            telling.recv(4)
            agent.append(socket.create_server(("127.0.0.1", port)))
            telling.send(b"!")

        agent: list[socket.socket] = []
        thread = threading.Thread(target=agent_starts)
        thread.start()
        with pytest.raises(ArcSecretError, match=f"is served by user {NOBODY}"):
            asyncio.run(token())
        thread.join()
        assert telling.recv(65536) == b"nothing"
        agent[0].close()


def test_process_on_ipv6_localhost_gets_no_request(
    arc_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = int(os.environ["IMDS_ENDPOINT"].rpartition(":")[2])
    try:
        other_localhost = socket.create_server(("::1", port), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 here")
    resolve = socket.getaddrinfo
    other = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0))]

    def resolved(host: Any, *given: Any, **named: Any) -> Any:
        return other if host == "localhost" else resolve(host, *given, **named)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"http://localhost:{port}{TOKEN}")
    with other_localhost:
        other_localhost.settimeout(0.1)
        credential = ManagedIdentityCredential(
            arc_tokens_directory=str(arc_emulator.tokens_directory), cache="off"
        )
        assert credential.get_token("https://vault.azure.net/.default").token
        with pytest.raises(TimeoutError):
            other_localhost.accept()
