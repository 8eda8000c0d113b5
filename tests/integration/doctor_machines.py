"""Run the doctor on one of the machines of test_doctor_machines.py, in Linux namespaces.

With ``screen`` after the machine's name, print the command's output instead of JSON.
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
from imds_identity.doctor._facts import gather, system
from imds_identity.doctor._facts.facts import Hosting
from imds_identity.doctor._facts.hosting import gather_hosting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from imds_identity.emulator import Emulator

NOBODY = 65534
detect_container = system.detect_container
VAULT = "https://vault.azure.net"
AGENT_PORT = 40342
CERTIFICATE_DIRECTORY = Path("/var/opt/azcmagent/certs")


def diagnosis(**selector: Any) -> dict[str, Any]:
    if sys.argv[2:] == ["screen"]:
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in selector.items()]
        main(["doctor", "--resource", VAULT, "--short-ids", *flags])
        return {}
    return diagnose(VAULT, **selector).document()


def imds() -> Emulator:
    """Return an emulator of the metadata service at its usual address."""
    return emulators.Emulator(host="169.254.169.254", port=80, allow_remote=True, key_vault=False)


@contextlib.contextmanager
def agent() -> Iterator[Emulator]:
    """Run an emulator of the Azure Arc agent on its usual port and with its usual directory."""
    tokens = "/var/opt/azcmagent/tokens"
    arc = emulators.Emulator("arc", port=AGENT_PORT, tokens_directory=tokens, key_vault=False)
    with arc as emulator:
        yield emulator


def no_service() -> dict[str, Any]:
    return diagnosis()


def container() -> dict[str, Any]:
    """Run in a pod that has the variables of its Azure Arc server."""
    os.environ["KUBERNETES_SERVICE_HOST"] = "10.0.0.1"
    os.environ["IMDS_ENDPOINT"] = f"http://localhost:{AGENT_PORT}"
    os.environ["IDENTITY_ENDPOINT"] = (
        f"http://localhost:{AGENT_PORT}/metadata/identity/oauth2/token"
    )
    system.detect_container = detect_container
    return diagnosis()


def app_without_identity() -> dict[str, Any]:
    """Run in an App Service app, which cannot reach the metadata service."""
    os.environ["WEBSITE_SITE_NAME"] = "shop"
    vars(gather)["gather_hosting"] = gather_hosting
    return diagnosis()


def leftover_variable() -> dict[str, Any]:
    """Set the variable of a VM extension that was removed."""
    os.environ["MSI_ENDPOINT"] = "http://localhost:50342/oauth2/token"
    return diagnosis()


def slow_clock() -> dict[str, Any]:
    """Run with a service whose clock is ahead."""
    with imds() as emulator:
        emulator.fault(category="*", date_skew=600)
        return diagnosis()


def wrong_client_id() -> dict[str, Any]:
    """Request a token for an identity that is not assigned to the machine."""
    with imds():
        return diagnosis(client_id="11111111-2222-3333-4444-555555555555")


def vm() -> dict[str, Any]:
    with imds():
        return diagnosis()


def arc() -> dict[str, Any]:
    with agent():
        return diagnosis()


def expired_certificate() -> dict[str, Any]:
    """Run with an agent that was off for too long: Microsoft Entra ID rejects its certificate."""
    CERTIFICATE_DIRECTORY.mkdir()
    (CERTIFICATE_DIRECTORY / "myCert").write_bytes(create_expired_certificate())
    error = {"error": "invalid_client", "error_description": "AADSTS700027: it has expired"}
    with agent() as emulator:
        emulator.fault(status=400, body=json.dumps(error), leg="answer")
        return diagnosis()


def create_expired_certificate() -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "agent")])
    now = dt.datetime.now(dt.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=91))
        .not_valid_after(now - dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


def other_user() -> dict[str, Any]:
    """Run the doctor as the user nobody, who may not read root's files."""
    with agent():
        with contextlib.redirect_stdout(io.StringIO()):
            diagnosis()  # import everything while this process may read the files
        return in_child(diagnosis)


def in_child(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        become_user_nobody()
        with os.fdopen(writing, "w") as file:
            json.dump(work(), file)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        document: dict[str, Any] = json.load(file)
    os.waitpid(child, 0)
    return document


def become_user_nobody() -> None:
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def untrusted_listener() -> dict[str, Any]:
    """Run a server of the user nobody on the agent's port that sends the agent's challenge."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        become_user_nobody()
        serve(writing)
    os.read(reading, 1)
    try:
        return diagnosis()
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


MACHINES = {
    machine.__name__: machine
    for machine in (
        app_without_identity, arc, container, expired_certificate, leftover_variable, no_service,
        other_user, slow_clock, untrusted_listener, vm, wrong_client_id,
    )
}  # fmt: skip

if __name__ == "__main__":
    system.detect_container = lambda root, environment: ""  # the tests may run in a container
    vars(gather)["gather_hosting"] = lambda *_: Hosting()  # or on a host of another kind
    document = MACHINES[sys.argv[1]]()
    if document:
        print(json.dumps(document))
