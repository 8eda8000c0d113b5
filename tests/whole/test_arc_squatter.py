"""Another user of the machine listens where the agent should, and relays what it says."""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING, Any

import pytest

from imds_identity import ManagedIdentityCredential
from imds_identity._wire import secret_file
from imds_identity.errors import ArcSecretError

if TYPE_CHECKING:
    from collections.abc import Iterator

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


@pytest.fixture
def squatted(arc_emulator: Emulator) -> Iterator[int]:
    """The port of a squatter, who is nobody."""
    host, _, port = arc_emulator.endpoint.removeprefix("http://").partition("/")[0].partition(":")
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
            relay(listener, (host, int(port)))
        finally:
            os._exit(1)
    os.close(writing)
    squatter = int(os.read(reading, 10))
    os.close(reading)
    yield squatter
    os.kill(child, 9)
    os.waitpid(child, 0)


def test_a_squatter_gets_no_secret_and_it_is_not_even_read(
    arc_emulator: Emulator, squatted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Any] = []
    monkeypatch.setattr(secret_file, "read_secret", lambda *given: read.append(given))
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"http://localhost:{squatted}{TOKEN}")
    credential = ManagedIdentityCredential(
        arc_tokens_directory=str(arc_emulator.tokens_directory), cache="off"
    )
    with pytest.raises(ArcSecretError, match=f"port {squatted} of 127.0.0.1 listens user {NOBODY}"):
        credential.get_token("https://vault.azure.net/.default")
    assert read == []
    assert [request.status for request in arc_emulator.token_requests] == [401]


def test_a_squatter_on_the_other_localhost_is_not_even_asked(
    arc_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = int(os.environ["IMDS_ENDPOINT"].rpartition(":")[2])
    try:
        squatter = socket.create_server(("::1", port), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 here")
    resolve = socket.getaddrinfo
    other = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0))]

    def resolved(host: Any, *given: Any, **named: Any) -> Any:
        return other if host == "localhost" else resolve(host, *given, **named)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"http://localhost:{port}{TOKEN}")
    with squatter:
        squatter.settimeout(0.1)
        credential = ManagedIdentityCredential(
            arc_tokens_directory=str(arc_emulator.tokens_directory), cache="off"
        )
        assert credential.get_token("https://vault.azure.net/.default").token
        with pytest.raises(TimeoutError):
            squatter.accept()
