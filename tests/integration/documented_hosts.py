"""Servers that speak what the documentation of each app platform says, and nothing else.

Each looks at a request as its documentation has it, and refuses what it does not know.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from imds_identity._platform.clock import SYSTEM_CLOCK
from support import RawServer, TlsServer

if TYPE_CHECKING:
    import socket
    from pathlib import Path

SECRET = "the-apps-s3cret-of-853b9a84"
ASSERTION = "header.w0rkload.signature"
RESOURCE = "https://vault.azure.net"
CLIENT = "client-1"


class DocumentedHost(RawServer):
    """One host; each request gets what ``answer`` makes of it.

    Attributes:
        problems: what was wrong with requests.
        claims: what each request said of a claims challenge.
    """

    def __init__(self, *directory: Any) -> None:
        self.problems: list[str] = []
        self.claims: list[str] = []
        super().__init__(*directory)

    @classmethod
    def over(cls, _directory: Path) -> DocumentedHost:
        """A host of this kind; those that speak TLS leave their certificate in a directory."""
        return cls()

    def variables(self) -> dict[str, str]:
        """What the host puts into an app's environment."""
        raise NotImplementedError

    def answer(
        self, method: str, path: str, headers: dict[str, str], fields: dict[str, str]
    ) -> dict[str, Any]:
        """The answer to a request, by the documentation.

        Raises:
            AssertionError: with what is wrong with the request.
        """
        raise NotImplementedError

    def error(self, words: str) -> dict[str, Any]:
        """How the host says that a request is wrong."""
        return {"error": "invalid_request", "error_description": words}

    def _go_on(self, connection: socket.socket) -> None:
        head, _, body = self.requests[-1].decode().partition("\r\n\r\n")
        line, *lines = head.split("\r\n")
        method, target, _ = line.split(" ")
        headers = dict(re.split(r": *", field, maxsplit=1) for field in lines)
        headers = {name.lower(): value for name, value in headers.items()}
        parts = urlsplit(target)
        given = parse_qs(body if method == "POST" else parts.query, strict_parsing=True)
        status, said = "200 OK", {}
        try:
            assert all(len(values) == 1 for values in given.values()), "a parameter twice"
            fields = {name: values[0] for name, values in given.items()}
            said = self.answer(method, parts.path, headers, fields)
        except AssertionError as error:
            status, said = "400 Bad Request", self.error(str(error))
            self.problems.append(str(error))
        content = json.dumps(said)
        connection.sendall(
            f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n"
            f"Content-Length: {len(content)}\r\n\r\n{content}".encode()
        )


def expect(actual: Any, wanted: Any, name: str) -> None:
    """Refuse a request in which something is otherwise than documented."""
    assert actual == wanted, f"{name} is {actual!r}"


def token_for(fields: dict[str, str]) -> str:
    """A token that says whose it is."""
    return "token-of-" + next((v for k, v in fields.items() if k in _ALL_SELECTORS), "the-app")


_ALL_SELECTORS = (
    "client_id", "clientid", "object_id", "principal_id", "principalId", "mi_res_id", "msi_res_id",
)  # fmt: skip


class AppService(DocumentedHost):
    """https://learn.microsoft.com/azure/app-service/overview-managed-identity."""

    def variables(self) -> dict[str, str]:
        """Two of them."""
        return {"IDENTITY_ENDPOINT": f"{self.url}/msi/token", "IDENTITY_HEADER": SECRET}

    def answer(
        self, method: str, path: str, headers: dict[str, str], fields: dict[str, str]
    ) -> dict[str, Any]:
        """``expires_on`` alone, in a string."""
        expect((method, path), ("GET", "/msi/token"), "the request")
        expect(headers.get("x-identity-header"), SECRET, "X-IDENTITY-HEADER")
        expect(fields.pop("api-version", None), "2019-08-01", "api-version")
        expect(fields.pop("resource", None), RESOURCE, "resource")
        assert len(fields) <= 1, "more than one selector"
        assert set(fields) <= {"client_id", "principal_id", "object_id", "mi_res_id"}, "no such"
        echo = {"client_id": fields["client_id"]} if "client_id" in fields else {}
        expires_on = str(int(SYSTEM_CLOCK.wall()) + 3600)
        return {
            "access_token": token_for(fields), "expires_on": expires_on, "resource": RESOURCE,
            "token_type": "Bearer", **echo,
        }  # fmt: skip

    def error(self, words: str) -> dict[str, Any]:
        """A status and a message."""
        return {"statusCode": 400, "message": words}


class ContainerInstances(DocumentedHost):
    """https://learn.microsoft.com/azure/container-instances/container-instances-managed-identity."""

    def variables(self) -> dict[str, str]:
        """Two of them; the endpoint contains a version."""
        endpoint = f"{self.url}/metadata/identity/oauth2/token?api-version=1.0"
        return {"IDENTITY_ENDPOINT": endpoint, "IDENTITY_HEADER": SECRET}

    def answer(
        self, method: str, path: str, headers: dict[str, str], fields: dict[str, str]
    ) -> dict[str, Any]:
        """``expires_on`` is a string."""
        expect((method, path), ("GET", "/metadata/identity/oauth2/token"), "the request")
        expect(headers.get("secret"), SECRET, "secret")
        expect(fields.pop("api-version", None), "1.0", "api-version")
        expect(fields.pop("resource", None), RESOURCE, "resource")
        assert set(fields) <= {"principalId"}, f"unknown: {fields}"
        expires_on = str(int(SYSTEM_CLOCK.wall()) + 3600)
        return {
            "access_token": token_for(fields), "expires_on": expires_on, "resource": RESOURCE,
            "token_type": "Bearer",
        }  # fmt: skip


class AzureMl(DocumentedHost):
    """App Service's protocol of 2017-09-01, as azure-identity and MSAL speak it."""

    def variables(self) -> dict[str, str]:
        """Two of them."""
        return {"MSI_ENDPOINT": f"{self.url}/msi/token", "MSI_SECRET": SECRET}

    def answer(
        self, method: str, path: str, headers: dict[str, str], fields: dict[str, str]
    ) -> dict[str, Any]:
        """``expires_on`` is a date."""
        expect((method, path), ("GET", "/msi/token"), "the request")
        expect(headers.get("secret"), SECRET, "secret")
        expect(fields.pop("api-version", None), "2017-09-01", "api-version")
        expect(fields.pop("resource", None), RESOURCE, "resource")
        assert set(fields) <= {"clientid"}, f"unknown: {fields}"
        return {
            "access_token": token_for(fields), "expires_on": "1/16/2099 5:24:12 AM +00:00",
            "resource": RESOURCE, "token_type": "Bearer",
        }  # fmt: skip


class CloudShell(DocumentedHost):
    """https://learn.microsoft.com/azure/cloud-shell/msi-authorization."""

    def variables(self) -> dict[str, str]:
        """One."""
        return {"MSI_ENDPOINT": f"{self.url}/oauth2/token"}

    def answer(
        self, method: str, path: str, headers: dict[str, str], fields: dict[str, str]
    ) -> dict[str, Any]:
        """``expires_in`` is 0, whatever ``expires_on`` says."""
        expect((method, path), ("POST", "/oauth2/token"), "the request")
        expect(headers.get("metadata"), "true", "Metadata")
        expect(headers.get("content-type"), "application/x-www-form-urlencoded", "Content-Type")
        expect(fields, {"resource": RESOURCE}, "the form")
        expires_on = str(int(SYSTEM_CLOCK.wall()) + 3600)
        return {
            "access_token": token_for({}), "refresh_token": "", "expires_in": "0",
            "expires_on": expires_on, "resource": RESOURCE, "token_type": "Bearer",
        }  # fmt: skip


class _OverTls(DocumentedHost, TlsServer):
    @classmethod
    def over(cls, directory: Path) -> DocumentedHost:
        """One that leaves its certificate in ``directory``."""
        return cls(directory)


class ServiceFabric(_OverTls):
    """https://learn.microsoft.com/azure/service-fabric/how-to-managed-identity-service-fabric-app-code."""

    def variables(self) -> dict[str, str]:
        """Three of them."""
        return {
            "IDENTITY_ENDPOINT": f"{self.url}/metadata/identity/oauth2/token",
            "IDENTITY_HEADER": SECRET,
            "IDENTITY_SERVER_THUMBPRINT": self.thumbprint.upper(),
        }

    def answer(
        self, method: str, path: str, headers: dict[str, str], fields: dict[str, str]
    ) -> dict[str, Any]:
        """``expires_on`` is a number."""
        expect((method, path), ("GET", "/metadata/identity/oauth2/token"), "the request")
        expect(headers.get("secret"), SECRET, "Secret")
        expect(fields.pop("api-version", None), "2020-05-01", "api-version")
        expect(fields.pop("resource", None), RESOURCE, "resource")
        self.claims.append(fields.pop("token_sha256_to_refresh", ""))
        assert fields.pop("xms_cc", "cp1") == "cp1", "no such capability"
        assert set(fields) <= {"principalId"}, f"unknown: {fields}"
        expires_on = int(SYSTEM_CLOCK.wall()) + 3600
        return {
            "token_type": "Bearer", "access_token": f"{token_for(fields)}-{len(self.requests)}",
            "expires_on": expires_on, "resource": RESOURCE,
        }  # fmt: skip

    def error(self, words: str) -> dict[str, Any]:
        """Nested, with a correlation."""
        return {"error": {"correlationId": "1", "code": "ArgumentNullOrEmpty", "message": words}}


class Workload(_OverTls):
    """https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow."""

    def __init__(self, directory: Path) -> None:
        self.token_file = directory / "azure-identity-token"
        self.token_file.write_text(ASSERTION)
        super().__init__(directory)

    def variables(self) -> dict[str, str]:
        """Four of them."""
        return {
            "AZURE_AUTHORITY_HOST": f"{self.url}/",
            "AZURE_CLIENT_ID": CLIENT,
            "AZURE_FEDERATED_TOKEN_FILE": str(self.token_file),
            "AZURE_TENANT_ID": "a-tenant",
        }

    def answer(
        self, method: str, path: str, headers: dict[str, str], fields: dict[str, str]
    ) -> dict[str, Any]:
        """``expires_in`` alone, a number."""
        expect((method, path), ("POST", "/a-tenant/oauth2/v2.0/token"), "the request")
        expect(headers.get("content-type"), "application/x-www-form-urlencoded", "Content-Type")
        self.claims.append(fields.pop("claims", ""))
        client = fields.pop("client_id", "")
        documented = {
            "client_assertion": ASSERTION,
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "grant_type": "client_credentials",
            "scope": f"{RESOURCE}/.default",
        }
        expect(fields, documented, "the form")
        return {
            "token_type": "Bearer", "expires_in": 3599, "ext_expires_in": 3599,
            "access_token": token_for({"client_id": client}),
        }  # fmt: skip


HOSTS = {
    "app-service": AppService,
    "azure-ml": AzureMl,
    "cloud-shell": CloudShell,
    "service-fabric": ServiceFabric,
    "workload-identity": Workload,
}
