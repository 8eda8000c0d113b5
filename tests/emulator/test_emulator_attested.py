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

    from emulator.support import Ask, Start

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


def content_of(answer: Any) -> Any:
    """The signed content, unverified."""
    der = signature_of(answer)
    start = der.index(b'{"')
    return json.JSONDecoder().raw_decode(der[start:].decode("latin-1"))[0]


def signature_of(answer: Any) -> Any:
    body = answer.json()
    assert body["encoding"] == "pkcs7"
    return base64.b64decode(body["signature"])


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_openssl_verifies_the_document_against_the_root(
    started: Start, get: Ask, http: requests.Session, tmp_path: Path
) -> None:
    emulator = started()
    document = signature_of(get(emulator, PATH, api_version="2020-09-01", nonce="1234567890"))
    intermediate = http.get(emulator.endpoint + INTERMEDIATE).content
    done = openssl_verifies(document, emulator.attested_root_file, intermediate, tmp_path)
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert content["nonce"] == "1234567890"
    assert content["vmId"] == emulator.machine.vm_id
    assert content["subscriptionId"] == emulator.machine.subscription_id
    stranger = started().attested_root_file
    assert openssl_verifies(document, stranger, intermediate, tmp_path).returncode != 0


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
    [leaf] = pkcs7.load_der_pkcs7_certificates(der)
    access = leaf.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    url = access[0].access_location.value
    intermediate = x509.load_der_x509_certificate(http.get(url).content)
    leaf.verify_directly_issued_by(intermediate)
    root = x509.load_pem_x509_certificate(Path(emulator.attested_root_file).read_bytes())
    intermediate.verify_directly_issued_by(root)
    served = http.get(emulator.endpoint + "/emulator/attested/root.pem").content
    assert x509.load_pem_x509_certificate(served) == root


def test_the_intermediate_is_a_file_too(started: Start, http: requests.Session) -> None:
    emulator = started()
    file = Path(emulator.attested_intermediate_file)
    intermediate = x509.load_pem_x509_certificate(file.read_bytes())
    served = http.get(emulator.endpoint + INTERMEDIATE).content
    assert intermediate == x509.load_der_x509_certificate(served)


def test_fetching_certificates_is_no_request_to_the_service(
    started: Start, get: Ask, http: requests.Session
) -> None:
    emulator = started(limits=True)
    emulator.fault(category="attested", document="wrong-nonce", times=1)
    for _ in range(9):
        assert http.get(emulator.endpoint + INTERMEDIATE).status_code == 200
    answer = get(emulator, PATH, api_version="2020-09-01", nonce="1234567890")
    assert content_of(answer)["nonce"] == "0" * 10


@pytest.mark.parametrize("nonce", ["", "x" * 33, "a-b", "ü", "a b"])
def test_a_nonce_that_is_none_is_refused(started: Start, get: Ask, nonce: Any) -> None:
    assert get(started(), PATH, api_version="2020-09-01", nonce=nonce).status_code == 400


def test_the_times_are_the_clock_s(started: Start, get: Ask, clock: ManualClock) -> None:
    emulator = started(clock=clock)
    der = signature_of(get(emulator, PATH, api_version="2020-09-01"))
    assert b'"createdOn":"01/15/27 08:00:00 -0000"' in der
    assert b'"expiresOn":"01/15/27 14:00:00 -0000"' in der
    assert b'"nonce":"20270115-140000"' in der


def test_other_profiles_have_none(started: Start) -> None:
    with pytest.raises(RuntimeError, match="no attested documents"):
        _ = started("arc").attested_root_file


@pytest.mark.parametrize(
    ("version", "fields"),
    [
        ("2018-10-01", set()),
        ("2019-04-30", {"subscriptionId"}),
        ("2019-11-01", {"subscriptionId", "sku"}),
        ("2020-09-01", {"subscriptionId", "sku", "licenseType"}),
    ],
)
def test_a_version_attests_what_it_knows(
    started: Start, get: Ask, version: str, fields: set[str]
) -> None:
    content = content_of(get(started(), PATH, api_version=version))
    assert set(content) == {"nonce", "plan", "timeStamp", "vmId"} | fields


def test_the_digest_is_named_as_oddly_as_in_real_documents(started: Start, get: Ask) -> None:
    der = signature_of(get(started(), PATH, api_version="2020-09-01"))
    assert der.count(SHA256_WITH_RSA) == 4  # twice for the digest, twice in the certificate


def test_a_document_can_be_wrong_in_each_way(started: Start, get: Ask, clock: ManualClock) -> None:
    emulator = started(clock=clock)

    def asked(wrong: str) -> Any:
        emulator.fault(category="attested", document=wrong, times=1)
        return get(emulator, PATH, api_version="2020-09-01", nonce="1234567890")

    assert content_of(asked("tampered"))["vmId"] != emulator.machine.vm_id
    assert content_of(asked("expired"))["timeStamp"]["expiresOn"] == "01/15/27 02:00:00 -0000"
    assert content_of(asked("wrong-nonce"))["nonce"] != "1234567890"
    [misnamed] = pkcs7.load_der_pkcs7_certificates(signature_of(asked("wrong-name")))
    assert not misnamed.subject.rfc4514_string().endswith(".metadata.azure.com")
    [stranger] = pkcs7.load_der_pkcs7_certificates(signature_of(asked("unknown-root")))
    assert stranger.subject.rfc4514_string().endswith(".metadata.azure.com")
    assert len(pkcs7.load_der_pkcs7_certificates(signature_of(asked("decoy-signer")))) == 2
    with pytest.raises(ValueError, match="document"):
        emulator.fault(category="attested", document="nice")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
@pytest.mark.parametrize("wrong", ["tampered", "unknown-root", "decoy-signer"])
def test_openssl_believes_no_wrong_document(
    started: Start, get: Ask, http: requests.Session, tmp_path: Path, wrong: str
) -> None:
    emulator = started()
    emulator.fault(category="attested", document=wrong)
    document = signature_of(get(emulator, PATH, api_version="2020-09-01"))
    intermediate = http.get(emulator.endpoint + INTERMEDIATE).content
    root = emulator.attested_root_file
    assert openssl_verifies(document, root, intermediate, tmp_path).returncode != 0
