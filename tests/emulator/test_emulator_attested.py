from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs7

from imds_identity.emulator import Machine, ManualClock

if TYPE_CHECKING:
    import requests

    from emulator.support import Send, Start

PATH = "/metadata/attested/document"
INTERMEDIATE = "/emulator/attested/intermediate.cer"
SHA256_WITH_RSA = bytes.fromhex("06092a864886f70d01010b")


def openssl_verifies(document: bytes, root_file: str, intermediate: bytes, tmp_path: Path) -> Any:
    file, trusted = tmp_path / "document", tmp_path / "trusted"
    file.write_bytes(document)
    issuer = x509.load_der_x509_certificate(intermediate)
    trusted.write_bytes(
        Path(root_file).read_bytes() + issuer.public_bytes(serialization.Encoding.PEM)
    )
    command = ["openssl", "cms", "-verify", "-inform", "DER", "-in", str(file), "-purpose", "any"]
    return subprocess.run([*command, "-CAfile", str(trusted)], capture_output=True, check=False)


def content_of(response: Any) -> Any:
    """Return the signed content without verifying it."""
    der = signature_of(response)
    start = der.index(b'{"')
    return json.JSONDecoder().raw_decode(der[start:].decode("latin-1"))[0]


def signature_of(response: Any) -> Any:
    body = response.json()
    assert body["encoding"] == "pkcs7"
    return base64.b64decode(body["signature"])


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_openssl_verifies_the_document_with_the_root(
    start_emulator: Start, get: Send, http: requests.Session, tmp_path: Path
) -> None:
    emulator = start_emulator()
    document = signature_of(get(emulator, PATH, api_version="2020-09-01", nonce="1234567890"))
    intermediate = http.get(emulator.endpoint + INTERMEDIATE).content
    done = openssl_verifies(document, emulator.attested_root_file, intermediate, tmp_path)
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert content["nonce"] == "1234567890"
    assert content["vmId"] == emulator.machine.vm_id
    assert content["subscriptionId"] == emulator.machine.subscription_id
    other_signer = start_emulator().attested_root_file
    assert openssl_verifies(document, other_signer, intermediate, tmp_path).returncode != 0


@pytest.mark.parametrize(
    ("environment", "domain"),
    [
        ("AzurePublicCloud", "metadata.azure.com"),
        ("AzureUSGovernmentCloud", "metadata.azure.us"),
        ("AzureChinaCloud", "metadata.azure.cn"),
        ("AzureGermanCloud", "metadata.microsoftazure.de"),
    ],
)
def test_signer_has_the_domain_of_its_cloud(
    start_emulator: Start, get: Send, environment: Any, domain: Any
) -> None:
    emulator = start_emulator(machine=Machine(environment=environment))
    der = signature_of(get(emulator, PATH, api_version="2020-09-01"))
    names = [
        name
        for certificate in pkcs7.load_der_pkcs7_certificates(der)
        for name in (attribute.value for attribute in certificate.subject)
    ]
    assert any(str(name).endswith("." + domain) for name in names)


def test_intermediate_is_served_at_the_url_in_the_signer_s_certificate(
    start_emulator: Start, get: Send, http: requests.Session
) -> None:
    emulator = start_emulator()
    der = signature_of(get(emulator, PATH, api_version="2020-09-01"))
    [leaf] = pkcs7.load_der_pkcs7_certificates(der)
    access = leaf.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    url = access[0].access_location.value
    intermediate = x509.load_der_x509_certificate(http.get(url).content)
    leaf.verify_directly_issued_by(intermediate)
    root = x509.load_pem_x509_certificate(Path(emulator.attested_root_file).read_bytes())
    intermediate.verify_directly_issued_by(root)
    served = http.get(emulator.endpoint + "/emulator/attested/root.pem").content
    assert x509.load_pem_x509_certificate(served) == root


def test_intermediate_is_available_as_a_file(start_emulator: Start, http: requests.Session) -> None:
    emulator = start_emulator()
    file = Path(emulator.attested_intermediate_file)
    intermediate = x509.load_pem_x509_certificate(file.read_bytes())
    served = http.get(emulator.endpoint + INTERMEDIATE).content
    assert intermediate == x509.load_der_x509_certificate(served)


def test_one_file_has_the_root_and_the_intermediate(
    start_emulator: Start, http: requests.Session
) -> None:
    emulator = start_emulator()
    both = Path(emulator.attested_ca_file).read_bytes()
    files = (emulator.attested_root_file, emulator.attested_intermediate_file)
    assert both == b"".join(Path(file).read_bytes() for file in files)
    assert http.get(emulator.endpoint + "/emulator/attested/ca.pem").content == both


def test_certificate_requests_are_not_limited_and_use_no_fault_of_documents(
    start_emulator: Start, get: Send, http: requests.Session
) -> None:
    emulator = start_emulator(limits=True)
    emulator.fault(category="attested", document="wrong-nonce", times=1)
    for _ in range(9):
        assert http.get(emulator.endpoint + INTERMEDIATE).status_code == 200
    response = get(emulator, PATH, api_version="2020-09-01", nonce="1234567890")
    assert content_of(response)["nonce"] == "0" * 10


@pytest.mark.parametrize("nonce", ["", "x" * 65, "ü", "a\tb"])
def test_invalid_nonce_is_rejected(start_emulator: Start, get: Send, nonce: Any) -> None:
    assert get(start_emulator(), PATH, api_version="2020-09-01", nonce=nonce).status_code == 400


def test_times_of_the_document_follow_the_clock(
    start_emulator: Start, get: Send, clock: ManualClock
) -> None:
    emulator = start_emulator(clock=clock)
    der = signature_of(get(emulator, PATH, api_version="2020-09-01"))
    assert b'"createdOn":"01/15/27 08:00:00 -0000"' in der
    assert b'"expiresOn":"01/15/27 14:00:00 -0000"' in der
    assert b'"nonce":"20270115-140000"' in der


def test_other_profiles_have_no_attested_documents(start_emulator: Start) -> None:
    with pytest.raises(RuntimeError, match="no attested documents"):
        _ = start_emulator("arc").attested_root_file


@pytest.mark.parametrize(
    ("version", "fields"),
    [
        ("2018-10-01", set()),
        ("2019-04-30", {"subscriptionId"}),
        ("2019-11-01", {"subscriptionId", "sku"}),
        ("2020-09-01", {"subscriptionId", "sku", "licenseType"}),
    ],
)
def test_document_has_the_fields_of_the_api_version(
    start_emulator: Start, get: Send, version: str, fields: set[str]
) -> None:
    content = content_of(get(start_emulator(), PATH, api_version=version))
    assert set(content) == {"nonce", "plan", "timeStamp", "vmId"} | fields


def test_digest_algorithm_is_as_unusual_as_in_real_documents(
    start_emulator: Start, get: Send
) -> None:
    der = signature_of(get(start_emulator(), PATH, api_version="2020-09-01"))
    assert der.count(SHA256_WITH_RSA) == 4  # twice for the digest, twice in the certificate


def test_document_can_have_each_defect(
    start_emulator: Start, get: Send, clock: ManualClock
) -> None:
    emulator = start_emulator(clock=clock)

    def get_defective(defect: str) -> Any:
        emulator.fault(category="attested", document=defect, times=1)
        return get(emulator, PATH, api_version="2020-09-01", nonce="1234567890")

    assert content_of(get_defective("tampered"))["vmId"] != emulator.machine.vm_id
    assert (
        content_of(get_defective("expired"))["timeStamp"]["expiresOn"] == "01/15/27 02:00:00 -0000"
    )
    assert content_of(get_defective("wrong-nonce"))["nonce"] != "1234567890"
    [wrong_name] = pkcs7.load_der_pkcs7_certificates(signature_of(get_defective("wrong-name")))
    assert not wrong_name.subject.rfc4514_string().endswith(".metadata.azure.com")
    [other_signer] = pkcs7.load_der_pkcs7_certificates(signature_of(get_defective("unknown-root")))
    assert other_signer.subject.rfc4514_string().endswith(".metadata.azure.com")
    assert len(pkcs7.load_der_pkcs7_certificates(signature_of(get_defective("decoy-signer")))) == 2
    with pytest.raises(ValueError, match="document"):
        emulator.fault(category="attested", document="nice")


def test_document_of_a_classic_vm_has_a_vm_id_and_a_nonce_only(
    start_emulator: Start, get: Send
) -> None:
    emulator = start_emulator()
    emulator.fault(category="attested", document="classic", times=1)
    content = content_of(get(emulator, PATH, api_version="2020-09-01", nonce="12"))
    assert content.pop("plan") == {"name": "", "product": "", "publisher": ""}
    assert content.pop("timeStamp") == {"createdOn": "", "expiresOn": ""}
    values = {name: value for name, value in content.items() if value}
    assert values == {"nonce": "12", "vmId": emulator.machine.vm_id}


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
@pytest.mark.parametrize("defect", ["tampered", "unknown-root", "decoy-signer"])
def test_openssl_rejects_defective_documents(
    start_emulator: Start, get: Send, http: requests.Session, tmp_path: Path, defect: str
) -> None:
    emulator = start_emulator()
    emulator.fault(category="attested", document=defect)
    document = signature_of(get(emulator, PATH, api_version="2020-09-01"))
    intermediate = http.get(emulator.endpoint + INTERMEDIATE).content
    root = emulator.attested_root_file
    assert openssl_verifies(document, root, intermediate, tmp_path).returncode != 0
