"""docs/protocol.md shows the requests that the package sends."""

from __future__ import annotations

import contextlib
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from documented_hosts import HOSTS, ContainerInstances, DocumentedHost, token_for

from imds_identity import ManagedIdentityCredential
from support import RawServer, TlsServer

if TYPE_CHECKING:
    import socket

PAGE = (Path(__file__).parents[2] / "docs/protocol.md").read_text(encoding="utf-8")
SCOPE = "https://vault.azure.net/.default"


class FakeVm(DocumentedHost):
    def variables(self) -> dict[str, str]:
        return {"AZURE_POD_IDENTITY_AUTHORITY_HOST": self.url}

    def answer(self, method: str, path: str, headers: Any, fields: Any) -> dict[str, Any]:
        return {
            "access_token": token_for({}), "expires_on": "4000000000", "token_type": "Bearer",
            "resource": "https://vault.azure.net",
        }  # fmt: skip


class FakeArcAgent(FakeVm):
    """An agent that responds to the first request with a challenge that names a key file."""

    def __init__(self, directory: Path) -> None:
        (directory / "1.key").write_text("s3cret")
        self.challenge = f"Basic realm={directory / '1.key'}"
        super().__init__()

    @classmethod
    def over(cls, directory: Path) -> FakeArcAgent:
        return cls(directory)

    def variables(self) -> dict[str, str]:
        return {
            "IDENTITY_ENDPOINT": f"{self.url}/metadata/identity/oauth2/token",
            "IMDS_ENDPOINT": self.url,
        }

    def _go_on(self, connection: socket.socket) -> None:
        if len(self.requests) > 1:
            super()._go_on(connection)
            return
        head = f"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: {self.challenge}\r\n"
        connection.sendall(f"{head}Content-Length: 0\r\nConnection: close\r\n\r\n".encode())


SECTIONS: dict[str, Any] = {
    "An Azure VM": FakeVm,
    "An Azure Arc server": FakeArcAgent,
    "App Service, Functions, Container Apps": HOSTS["app-service"],
    "Container Instances on Windows": ContainerInstances,
    "Azure ML": HOSTS["azure-ml"],
    "Cloud Shell": HOSTS["cloud-shell"],
    "Service Fabric": HOSTS["service-fabric"],
    "Workload identity": HOSTS["workload-identity"],
}


def documented_requests(section: str) -> list[str]:
    text = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return re.findall(r"```http\n(.*?)\n```", text, re.DOTALL)


def sort_headers(request: str) -> str:
    """Sort the headers of a request, because their order does not matter."""
    head, _, body = request.partition("\n\n")
    line, *headers = head.split("\n")
    return "\n".join([line, *sorted(headers), body])


@pytest.mark.parametrize("section", SECTIONS)
def test_sent_requests_equal_the_documented_requests(
    section: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AZURE_POD_IDENTITY_AUTHORITY_HOST")
    if section.endswith("on Windows"):
        monkeypatch.delenv("IMDS_IDENTITY_ENDPOINT", raising=False)
    with contextlib.ExitStack() as stack:
        host: RawServer = stack.enter_context(SECTIONS[section].over(tmp_path))
        for name, value in host.variables().items():  # type: ignore[attr-defined]
            monkeypatch.setenv(name, value)
        if isinstance(host, TlsServer):
            monkeypatch.setenv("REQUESTS_CA_BUNDLE", host.certificates)
        settings = {"arc_tokens_directory": tmp_path} if section == "An Azure Arc server" else {}
        with monkeypatch.context() as system:
            if section.endswith("on Windows"):
                system.setattr(sys, "platform", "win32")
            credential = ManagedIdentityCredential(**settings)  # type: ignore[arg-type]
        assert credential.get_token(SCOPE)
    sent = [sort_headers(request.decode().replace("\r\n", "\n")) for request in host.requests]
    expected = [sort_headers(request) for request in documented_requests(section)]
    assert len(sent) == len(expected)
    for request, pattern in zip(sent, expected, strict=True):
        assert re.fullmatch(re.escape(pattern).replace("…", ".*"), request), f"\n{request}"


def test_every_documented_request_is_tested() -> None:
    assert len(re.findall("```http", PAGE)) == sum(
        len(documented_requests(section)) for section in SECTIONS
    )
