"""A credential travels to Dask's workers, and ten of them cause one token request."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import pytest
from interop_support import REPOSITORY

from imds_identity import ManagedIdentityCredential

if TYPE_CHECKING:
    from pathlib import Path

    from imds_identity.emulator import Emulator

pytestmark = [
    pytest.mark.interop,
    # A cluster's own sockets and loops, which it closes as it goes down.
    pytest.mark.filterwarnings("ignore"),
]


def test_ten_workers_cause_one_token_request(
    imds_emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setenv("IMDS_IDENTITY_CACHE", str(tmp_path / "shared"))
    monkeypatch.syspath_prepend(REPOSITORY / "examples")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY / "examples"))
    example = importlib.import_module("dask_workers")
    expiries = example.expiries(10, ManagedIdentityCredential())
    assert len(expiries) == 10
    assert len(set(expiries)) == 1
    assert len(imds_emulator.token_requests) == 1
