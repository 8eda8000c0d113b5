"""The package imds_identity.metadata."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

from imds_identity import metadata
from imds_identity.metadata import aio


@pytest.mark.parametrize("name", metadata.__all__)
def test_every_public_name_can_be_imported(name: str) -> None:
    assert getattr(metadata, name).__name__ == name if name != "CLOUDS" else metadata.CLOUDS


def test_importing_the_package_imports_nothing_heavy() -> None:
    heavy = ("azure", "requests", "cryptography", "asn1crypto", "dataclasses")
    script = f"import imds_identity.metadata, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


PUBLIC = [name for name in vars(metadata.MetadataClient) if not name.startswith("_")]


@pytest.mark.parametrize("name", PUBLIC)
def test_the_async_client_has_the_same_methods_and_parameters(name: str) -> None:
    method, twin = getattr(metadata.MetadataClient, name), getattr(aio.MetadataClient, name)
    if callable(method):
        parameters = inspect.signature(twin).parameters.values()
        assert list(parameters) == list(inspect.signature(method).parameters.values())


def test_a_missing_extra_is_reported_with_the_command_to_install_it() -> None:
    script = (
        "import sys; sys.modules['asn1crypto'] = None\n"
        "import importlib.util as u; real = u.find_spec\n"
        "u.find_spec = lambda name, *more: None if name == 'asn1crypto' else real(name, *more)\n"
        "from imds_identity.metadata import MetadataClient, parse_instance\n"
        "from imds_identity.metadata import verify_attested_document"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert "ModuleNotFoundError: an attested document needs asn1crypto: pip install" in done.stderr
