"""The examples work against the emulator."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jwt
import pytest

import imds_identity
import imds_identity.aio
from support import QuietHandler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imds_identity.emulator import Emulator

EXAMPLES = Path(__file__).parents[2] / "examples"


def load_example(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class FakeResourceManager(QuietHandler, BaseHTTPRequestHandler):
    """Lists one subscription for requests with a token for Azure Resource Manager."""

    def do_GET(self) -> None:
        token = self.headers["Authorization"].removeprefix("Bearer ")
        audience = jwt.decode(token, options={"verify_signature": False})["aud"]
        authorized = audience == "https://management.azure.com" and self.path.startswith(
            "/subscriptions?"
        )
        body = json.dumps({"value": [{"displayName": "Production"}]}).encode()
        self.respond(200 if authorized else 401, body)


@pytest.fixture
def resource_manager() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeResourceManager)
    threading.Thread(target=server.serve_forever, args=(0.01,)).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def vault(imds_emulator: Emulator) -> dict[str, Any]:
    imds_emulator.key_vault.secrets.update({"one": "1", "two": "22"})
    return {
        "vault_url": imds_emulator.key_vault.url,
        "verify_challenge_resource": False,
        "connection_verify": imds_emulator.key_vault.ca_file,
    }


def test_sdk_client_example(vault: dict[str, Any]) -> None:
    credential = imds_identity.ManagedIdentityCredential()
    names = load_example("sdk_client").list_secrets(credential=credential, **vault)
    assert sorted(names) == ["greeting", "one", "two"]


def test_sdk_client_async_example(vault: dict[str, Any]) -> None:
    credential = imds_identity.aio.ManagedIdentityCredential()
    names = asyncio.run(
        load_example("sdk_client_async").list_secrets(credential=credential, **vault)
    )
    assert sorted(names) == ["greeting", "one", "two"]


def test_key_vault_secret_example(vault: dict[str, Any]) -> None:
    credential = imds_identity.ManagedIdentityCredential()
    assert (
        load_example("key_vault_secret").read_secret(name="two", credential=credential, **vault)
        == "22"
    )


def test_key_vault_secret_async_example(vault: dict[str, Any], imds_emulator: Emulator) -> None:
    credential = imds_identity.aio.ManagedIdentityCredential()
    read_secrets = load_example("key_vault_secret_async").read_secrets
    secrets = asyncio.run(read_secrets(names=["one", "two"], credential=credential, **vault))
    assert secrets == {"one": "1", "two": "22"}
    assert len(imds_emulator.token_requests) == 1


@pytest.mark.usefixtures("imds_emulator")
def test_management_script_example(resource_manager: str) -> None:
    assert load_example("management_script").subscriptions(resource_manager) == ["Production"]


@pytest.mark.usefixtures("imds_emulator")
def test_management_script_async_example(resource_manager: str) -> None:
    assert asyncio.run(load_example("management_script_async").subscriptions(resource_manager)) == [
        "Production"
    ]
