"""The resources that tokens are issued for: those that Entra knows, and additional ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from emulator.support import claims_of
from imds_identity.emulator._machine.resources import is_known_resource

if TYPE_CHECKING:
    from emulator.support import Send, Start


@pytest.mark.parametrize(
    "resource",
    [
        "https://vault.azure.net",
        "https://vault.azure.net/",
        "https://Management.Azure.com/",
        "https://management.core.windows.net/",
        "https://account.blob.core.windows.net",
        "00000003-0000-0000-c000-000000000000",
    ],
)
def test_resources_of_every_tenant_get_a_token(
    start_emulator: Start, request_token: Send, resource: str
) -> None:
    response = request_token(start_emulator(), resource=resource)
    assert response.status_code == 200
    assert claims_of(response)["aud"] == resource


@pytest.mark.parametrize(
    "resource",
    [
        "https://vault.azure.net/.default",
        "https://vault.azure.net//",
        "vault.azure.net",
        "http://vault.azure.net",
        "https://unknown.example",
        "api://6c5b",
        "https://blob.core.windows.net.example",
        "*",
    ],
)
@pytest.mark.parametrize("profile", ["vm", "arc"])
def test_unknown_resource_gets_the_error_of_entra(
    start_emulator: Start, request_token: Send, request_arc_token: Send, resource: str, profile: str
) -> None:
    emulator = start_emulator(profile)
    response = (request_arc_token if profile == "arc" else request_token)(
        emulator, resource=resource
    )
    assert response.status_code == 400
    message = f"AADSTS500011: The resource principal named {resource} was not found in the tenant"
    assert message in response.text
    assert response.json()["error"] == "invalid_resource"


def test_additional_resources_can_be_allowed(start_emulator: Start, request_token: Send) -> None:
    emulator = start_emulator(resources=["api://6c5b", "https://*.example"])
    assert request_token(emulator, resource="api://6c5b").status_code == 200
    assert request_token(emulator, resource="https://service.example/").status_code == 200
    assert request_token(emulator, resource="https://example").status_code == 400


def test_star_allows_every_resource() -> None:
    assert is_known_resource("whatever", ["*"])


def test_missing_identity_is_reported_before_an_unknown_resource(
    start_emulator: Start, request_token: Send
) -> None:
    refused = request_token(start_emulator(identities=()), resource="https://unknown.example")
    assert "Identity not found" in refused.text
