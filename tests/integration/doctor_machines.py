"""Run in namespaces: one of the worlds of test_doctor_machines.py, and what the doctor says there.

With ``screen`` behind the world's name it is said as people see it.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import json
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imds_identity import emulator as emulators
from imds_identity.cli import main
from imds_identity.doctor import diagnose
from imds_identity.doctor._facts import system

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from imds_identity.emulator import Emulator

NOBODY = 65534
container_in = system.container_in
VAULT = "https://vault.azure.net"
AGENT_PORT = 40342
CERTIFICATES = Path("/var/opt/azcmagent/certs")


def said(**selector: str) -> dict[str, Any]:
    if sys.argv[2:] == ["screen"]:
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in selector.items()]
        main(["doctor", "--resource", VAULT, "--short-ids", *flags])
        return {}
    return diagnose(VAULT, **selector).document()


def imds() -> Emulator:
    """The metadata service at its own address."""
    return emulators.Emulator(host="169.254.169.254", port=80, allow_remote=True, key_vault=False)


@contextlib.contextmanager
def agent() -> Iterator[Emulator]:
    """An agent where Azure Arc's is: its port, its directory."""
    tokens = "/var/opt/azcmagent/tokens"
    made = emulators.Emulator("arc", port=AGENT_PORT, tokens_directory=tokens, key_vault=False)
    with made as emulator:
        yield emulator


def alone() -> dict[str, Any]:
    return said()


def container() -> dict[str, Any]:
    """A pod with the variables of the Azure Arc server that it runs on."""
    os.environ["KUBERNETES_SERVICE_HOST"] = "10.0.0.1"
    os.environ["IMDS_ENDPOINT"] = f"http://localhost:{AGENT_PORT}"
    os.environ["IDENTITY_ENDPOINT"] = (
        f"http://localhost:{AGENT_PORT}/metadata/identity/oauth2/token"
    )
    system.container_in = container_in
    return said()


def left_over() -> dict[str, Any]:
    """A variable of a VM extension that is no more."""
    os.environ["MSI_ENDPOINT"] = "http://localhost:50342/oauth2/token"
    return said()


def slow() -> dict[str, Any]:
    """The service's clock is ahead: ours is slow."""
    with imds() as emulator:
        emulator.fault(category="*", date_skew=600)
        return said()


def wrong() -> dict[str, Any]:
    """A client id that is not this machine's."""
    with imds():
        return said(client_id="11111111-2222-3333-4444-555555555555")


def vm() -> dict[str, Any]:
    with imds():
        return said()


def arc() -> dict[str, Any]:
    with agent():
        return said()


def expired() -> dict[str, Any]:
    """An agent that was off for too long: Microsoft Entra ID does not take its certificate."""
    CERTIFICATES.mkdir()
    (CERTIFICATES / "myCert").write_bytes(certificate())
    error = {"error": "invalid_client", "error_description": "AADSTS700027: it has expired"}
    with agent() as emulator:
        emulator.fault(status=400, body=json.dumps(error), leg="answer")
        return said()


def certificate() -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "agent")])
    now = dt.datetime.now(dt.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=91))
        .not_valid_after(now - dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


def nobody() -> dict[str, Any]:
    """The doctor is nobody, who may not read root's files."""
    with agent():
        with contextlib.redirect_stdout(io.StringIO()):
            said()  # what it imports is loaded while it can be read
        return in_a_child(said)


def in_a_child(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        become_nobody()
        with os.fdopen(writing, "w") as file:
            json.dump(work(), file)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        document: dict[str, Any] = json.load(file)
    os.waitpid(child, 0)
    return document


def become_nobody() -> None:
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def squatter() -> dict[str, Any]:
    """Nobody has taken the agent's port, and asks for the secret as the agent would."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        become_nobody()
        serve(writing)
    os.read(reading, 1)
    try:
        return said()
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def serve(ready: int) -> None:
    realm = "/var/opt/azcmagent/tokens/a.key"
    head = f"401 Unauthorized\r\nWWW-Authenticate: Basic realm={realm}\r\nContent-Length: 0"
    with socket.create_server(("127.0.0.1", AGENT_PORT)) as listener:
        os.write(ready, b"!")
        while True:
            client, _ = listener.accept()
            with client:
                if client.recv(65536):
                    client.sendall(f"HTTP/1.1 {head}\r\n\r\n".encode())


WORLDS = {
    world.__name__: world
    for world in (alone, arc, container, expired, left_over, nobody, slow, squatter, vm, wrong)
}

if __name__ == "__main__":
    system.container_in = lambda root, environment: ""  # the tests may run in a container
    document = WORLDS[sys.argv[1]]()
    if document:
        print(json.dumps(document))
