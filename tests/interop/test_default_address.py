"""A client with no variable set finds the service at 169.254.169.254."""

from __future__ import annotations

from pathlib import Path

import pytest
from interop_support import DEFAULT_ADDRESS_WORLD, in_namespace

pytestmark = pytest.mark.interop


def test_clients_with_no_variable_set_get_their_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", raising=False)
    script = Path(__file__).parent / "machine_default_address.py"
    said = in_namespace(["-n"], DEFAULT_ADDRESS_WORLD, script)
    assert said.split() == ["imds-identity", "azure-identity"]
