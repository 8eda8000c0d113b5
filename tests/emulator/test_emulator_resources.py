"""Which resources a token can be had for: those that Entra knows, and those allowed beside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from emulator.support import claims_of
from imds_identity.emulator._machine.resources import is_known

if TYPE_CHECKING:
    from emulator.support import Ask, Start


@pytest.mark.parametrize(
    "resource",
    [
        "https://vault.azure.net",
        "https://vault.azure.net/",
        "https://Management.Azure.com/",
        "https://management.core.windows.net/",
        "https://account.blob.core.windows.net",
        "api://AzureADTokenExchange",
        "00000003-0000-0000-c000-000000000000",
    ],
)
def test_what_every_tenant_knows_gets_a_token(started: Start, ask: Ask, resource: str) -> None:
    answer = ask(started(), resource=resource)
    assert answer.status_code == 200
    assert claims_of(answer)["aud"] == resource


@pytest.mark.parametrize(
    "resource",
    [
        "https://vault.azure.net/.default",
        "https://vault.azure.net//",
        "vault.azure.net",
        "http://vault.azure.net",
        "https://nobody.example",
        "api://6c5b",
        "https://blob.core.windows.net.example",
        "*",
    ],
)
@pytest.mark.parametrize("profile", ["vm", "arc"])
def test_what_entra_would_not_know_is_refused_in_its_words(
    started: Start, ask: Ask, ask_arc: Ask, resource: str, profile: str
) -> None:
    emulator = started(profile)
    answer = (ask_arc if profile == "arc" else ask)(emulator, resource=resource)
    assert answer.status_code == 400
    words = f"AADSTS500011: The resource principal named {resource} was not found in the tenant"
    assert words in answer.text
    assert answer.json()["error"] == "invalid_resource"


def test_more_resources_can_be_allowed(started: Start, ask: Ask) -> None:
    emulator = started(resources=["api://6c5b", "https://*.example"])
    assert ask(emulator, resource="api://6c5b").status_code == 200
    assert ask(emulator, resource="https://somebody.example/").status_code == 200
    assert ask(emulator, resource="https://example").status_code == 400


def test_a_star_allows_every_resource() -> None:
    assert is_known("whatever", ["*"])


def test_no_identity_is_told_of_before_the_resource(started: Start, ask: Ask) -> None:
    refused = ask(started(identities=()), resource="https://nobody.example")
    assert "Identity not found" in refused.text
