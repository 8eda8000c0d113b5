"""Clients without environment variables find the service at 169.254.169.254."""

from __future__ import annotations

from pathlib import Path

import pytest
from interop_support import DEFAULT_ADDRESS_SETUP, in_namespace

pytestmark = pytest.mark.interop


def test_clients_without_variables_get_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", raising=False)
    script = Path(__file__).parent / "namespace_default_address.py"
    output = in_namespace(["-n"], DEFAULT_ADDRESS_SETUP, script)
    assert output.split() == ["imds-identity", "azure-identity"]
