from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs7

from imds_identity.emulator import Machine, ManualClock

if TYPE_CHECKING:
    import requests

    from emulator.support import Ask, Start

PATH = "/metadata/attested/document"


def signature_of(answer: Any) -> Any:
    body = answer.json()
    assert body["encoding"] == "pkcs7"
    return base64.b64decode(body["signature"])


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_openssl_verifies_the_document_against_the_root(
    started: Start, get: Ask, tmp_path: Path
) -> None:
    emulator = started()
    answer = get(emulator, PATH, api_version="2020-09-01", nonce="1234567890")
    file = tmp_path / "document"
    file.write_bytes(signature_of(answer))
    command = ["openssl", "cms", "-verify", "-inform", "DER", "-in", str(file), "-purpose", "any"]
    shown = subprocess.run(
        [*command, "-CAfile", emulator.attested_root_file], check=True, capture_output=True
    ).stdout
    content = json.loads(shown)
    assert content["nonce"] == "1234567890"
    assert content["vmId"] == emulator.machine.vm_id
    assert content["subscriptionId"] == emulator.machine.subscription_id
    assert set(content) == {
        "licenseType",
        "nonce",
        "plan",
        "sku",
        "subscriptionId",
        "timeStamp",
        "vmId",
    }
    stranger = started().attested_root_file
    assert (
        subprocess.run([*command, "-CAfile", stranger], capture_output=True, check=False).returncode
        != 0
    )


@pytest.mark.parametrize(
    ("environment", "domain"),
    [
        ("AzurePublicCloud", "metadata.azure.com"),
        ("AzureUSGovernmentCloud", "metadata.azure.us"),
        ("AzureChinaCloud", "metadata.azure.cn"),
        ("AzureGermanCloud", "metadata.microsoftazure.de"),
    ],
)
def test_the_signer_is_named_as_its_cloud_s(
    started: Start, get: Ask, environment: Any, domain: Any
) -> None:
    emulator = started(machine=Machine(environment=environment))
    der = signature_of(get(emulator, PATH, api_version="2020-09-01"))
    names = [
        name
        for certificate in pkcs7.load_der_pkcs7_certificates(der)
        for name in (attribute.value for attribute in certificate.subject)
    ]
    assert any(str(name).endswith("." + domain) for name in names)


def test_the_intermediate_is_served_where_the_signer_s_certificate_says(
    started: Start, get: Ask, http: requests.Session
) -> None:
    emulator = started()
    der = signature_of(get(emulator, PATH, api_version="2020-09-01"))
    leaf = next(
        certificate
        for certificate in pkcs7.load_der_pkcs7_certificates(der)
        if "CA" not in certificate.subject.rfc4514_string()
    )
    access = leaf.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    url = access[0].access_location.value
    intermediate = x509.load_der_x509_certificate(http.get(url).content)
    leaf.verify_directly_issued_by(intermediate)
    root = x509.load_pem_x509_certificate(Path(emulator.attested_root_file).read_bytes())
    intermediate.verify_directly_issued_by(root)
    served = http.get(emulator.endpoint + "/emulator/attested/root.pem").content
    assert x509.load_pem_x509_certificate(served) == root


@pytest.mark.parametrize("nonce", ["", "x" * 33, "a-b", "ü", "a b"])
def test_a_nonce_that_is_none_is_refused(started: Start, get: Ask, nonce: Any) -> None:
    assert get(started(), PATH, api_version="2020-09-01", nonce=nonce).status_code == 400


def test_the_times_are_the_clock_s(started: Start, get: Ask, clock: ManualClock) -> None:
    emulator = started(clock=clock)
    der = signature_of(get(emulator, PATH, api_version="2020-09-01"))
    assert b'"createdOn":"01/15/27 08:00:00 -0000"' in der
    assert b'"expiresOn":"01/15/27 14:00:00 -0000"' in der
    assert b'"nonce":"20270115-080000"' in der


def test_other_profiles_have_none(started: Start) -> None:
    with pytest.raises(RuntimeError, match="no attested documents"):
        _ = started("arc").attested_root_file
