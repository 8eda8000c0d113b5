"""Attested documents, fetched from the emulator."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from imds_identity.emulator import Emulator, Machine
from imds_identity.metadata import errors, verify_attested_document
from metadata_support import client_of, trust_arguments

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ("tampered", errors.WrongSignatureError),
        ("expired", errors.DocumentExpiredError),
        ("wrong-name", errors.WrongSignerError),
        ("wrong-nonce", errors.WrongNonceError),
        ("decoy-signer", errors.AttestedDocumentError),
        ("unknown-root", errors.UntrustedSignerError),
    ],
)
def test_each_kind_of_invalid_document_is_refused_with_its_error(
    start_emulator: Callable[..., Emulator], wrong: str, error: type[Exception]
) -> None:
    emulator = start_emulator()
    emulator.fault(category="attested", document=wrong)
    with pytest.raises(error):
        client_of(emulator).attested_document(**trust_arguments(emulator))


def test_a_document_of_another_cloud_is_refused(start_emulator: Callable[..., Emulator]) -> None:
    emulator = start_emulator(machine=Machine(environment="AzureChinaCloud"))
    client = client_of(emulator)
    proof = client.attested_document(cloud="AZURECHINACLOUD", **trust_arguments(emulator))
    assert proof.cloud == client.compute().cloud
    with pytest.raises(errors.WrongCloudError):
        client.attested_document(cloud="AzurePublicCloud", **trust_arguments(emulator))


def test_a_document_with_a_stale_nonce_is_fetched_again(
    start_emulator: Callable[..., Emulator],
) -> None:
    emulator = start_emulator()
    emulator.fault(category="attested", document="wrong-nonce", times=1)
    assert (
        client_of(emulator).attested_document(nonce="9", **trust_arguments(emulator)).nonce == "9"
    )


def test_an_attested_document_is_fetched_and_verified(
    start_emulator: Callable[..., Emulator],
) -> None:
    emulator = start_emulator()
    client = client_of(emulator)
    proof = client.attested_document(**trust_arguments(emulator))
    assert proof.vm_id == emulator.machine.vm_id
    assert proof.nonce is not None
    assert len(proof.nonce) == 10
    with pytest.raises(errors.MissingIntermediateError):
        client.attested_document(nonce="abc", ca_file=emulator.attested_root_file)
    intermediate = Path(emulator.attested_intermediate_file).read_bytes()
    with pytest.raises(errors.UnknownRootError):
        client.attested_document(intermediates=[intermediate], offline=True)


def test_a_document_of_a_classic_vm_is_verified_with_its_nonce(
    start_emulator: Callable[..., Emulator],
) -> None:
    emulator = start_emulator()
    emulator.fault(category="attested", document="classic")
    client = client_of(emulator)
    proof = client.attested_document(**trust_arguments(emulator))
    assert (proof.vm_id, proof.subscription_id) == (emulator.machine.vm_id, None)
    assert (proof.created_on, proof.expires_on, bool(proof.plan)) == (None, None, False)
    with pytest.raises(errors.MalformedDocumentError, match="verify it with a nonce"):
        verify_attested_document(
            client.attested_signature(), nonce=None, **trust_arguments(emulator)
        )
    with pytest.raises(ValueError, match="printable ASCII"):
        client.attested_document(nonce="a\tb")
