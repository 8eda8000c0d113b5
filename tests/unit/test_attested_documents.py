"""Verification of attested documents: real ones, generated ones, and each kind of invalid one."""

from __future__ import annotations

import base64
import datetime as dt
import functools
import json
import random
import runpy
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from attested_support import (
    AT,
    DocumentFactory,
    content,
    issue_certificate,
    signed_data,
)
from imds_identity.metadata import errors, verify_attested_document
from imds_identity.metadata import read_attested_document_without_verifying as read_unverified
from imds_identity.metadata._attestation import trust
from imds_identity.metadata._attestation.chain import TrustMaterial, check_chain
from imds_identity.metadata._attestation.trust import certificates_from, intermediates, roots
from markdown_blocks import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryptography import x509

REFERENCE = Path(__file__).parents[3] / "shared/reference/attested/documents.json"
REAL: list[dict[str, str]] = json.loads(REFERENCE.read_text()) if REFERENCE.exists() else []


def created_on(document: dict[str, str]) -> dt.datetime:
    return dt.datetime.strptime(document["createdOn"], "%m/%d/%y %H:%M:%S %z")


@pytest.fixture(scope="module")
def document_factory() -> DocumentFactory:
    return DocumentFactory()


@pytest.fixture
def root_file(document_factory: DocumentFactory, tmp_path: Path) -> str:
    return document_factory.write(tmp_path / "root.pem", document_factory.root)


def verify(document_factory: DocumentFactory, document: Any, root_file: str, **options: Any) -> Any:
    options = {
        "nonce": "42",
        "at": AT,
        "intermediates": [document_factory.authority.certificate],
        **options,
    }
    return verify_attested_document(document, ca_file=root_file, offline=True, **options)


@pytest.mark.parametrize("document", REAL, ids=lambda document: document["createdOn"][:8])
class TestRealDocuments:
    def test_they_are_valid_when_they_were_created(self, document: dict[str, str]) -> None:
        at = created_on(document)
        verified = verify_attested_document(
            document["document"], nonce=document["nonce"], at=at, offline=True
        )
        assert verified.vm_id == document["vmId"]
        assert verified.nonce == document["nonce"]
        assert verified.created_on == at
        assert verified.expires_on == at + dt.timedelta(hours=6)
        assert verified.cloud is not None
        assert verified.cloud.name == "AzurePublicCloud"

    def test_they_have_expired_today(self, document: dict[str, str]) -> None:
        with pytest.raises(errors.DocumentExpiredError, match="expired on 20"):
            verify_attested_document(document["document"], nonce=None, offline=True)

    def test_another_nonce_is_refused(self, document: dict[str, str]) -> None:
        with pytest.raises(errors.WrongNonceError, match="another request"):
            verify_attested_document(
                document["document"], nonce="1", at=created_on(document), offline=True
            )

    def test_another_cloud_is_refused(self, document: dict[str, str]) -> None:
        with pytest.raises(errors.WrongCloudError, match=r"of AzurePublicCloud, not of AzureChina"):
            verify_attested_document(
                document["document"], nonce=None, at=created_on(document), cloud="AZURECHINACLOUD"
            )

    def test_any_modified_byte_is_refused(self, document: dict[str, str]) -> None:
        der, at = base64.b64decode(document["document"]), created_on(document)
        generator = random.Random(document["vmId"])
        # Every 19th byte, others for each document: all bytes take half a minute.
        for position in range(generator.randrange(19), len(der), 19):
            modified = bytearray(der)
            modified[position] ^= generator.randrange(1, 256)
            text = base64.b64encode(modified).decode()
            with pytest.raises(errors.AttestedDocumentError):
                verify_attested_document(text, nonce=None, at=at, offline=True)

    def test_any_modified_character_is_refused(self, document: dict[str, str]) -> None:
        text, at = document["document"], created_on(document)
        start = random.Random(document["vmId"]).randrange(61)
        for position in range(start, len(text), 61):
            for other in "A=\n-":
                if text[position] == other:
                    continue
                modified = text[:position] + other + text[position + 1 :]
                with pytest.raises(errors.AttestedDocumentError):
                    verify_attested_document(modified, nonce=None, at=at, offline=True)


@pytest.mark.parametrize("authority", intermediates(), ids=lambda c: hex(c.serial_number)[:9])
def test_every_bundled_intermediate_is_issued_by_a_root(authority: x509.Certificate) -> None:
    issuers = [root for root in roots() if root.subject == authority.issuer]
    assert issuers
    for root in issuers:
        authority.verify_directly_issued_by(root)
        assert (
            root.not_valid_before_utc <= authority.not_valid_before_utc <= root.not_valid_after_utc
        )


def test_all_current_authorities_are_bundled() -> None:
    names = {each.subject.rfc4514_string().partition(",")[0] for each in intermediates()}
    current = {f"CN=Microsoft TLS G2 RSA CA OCSP {number:02}" for number in range(2, 17, 2)}
    assert current <= names


def test_the_page_lists_the_bundled_authorities() -> None:
    script = runpy.run_path(str(ROOT / "docs" / "attested_authorities.py"))
    (table,) = script["TABLE"].findall((ROOT / "docs" / "metadata.md").read_text("utf-8"))
    assert [line for line in table.splitlines() if line.startswith("| M")] == script["rows"]()


def test_a_name_with_any_string_type_is_parsed_or_refused(
    document_factory: DocumentFactory,
) -> None:
    der = document_factory.root.certificate.public_bytes(Encoding.DER)
    common_name = bytes.fromhex("0603550403")  # id-at-commonName; the string type follows
    assert common_name in der
    refused = []
    for tag in range(256):
        try:
            assert certificates_from(der.replace(common_name + b"\x0c", common_name + bytes([tag])))
        except ValueError as error:
            refused.append(str(error))
    assert refused
    assert all("not a certificate in PEM or DER (" in each for each in refused)


def test_a_generated_document_is_valid(document_factory: DocumentFactory, root_file: str) -> None:
    verified = verify(document_factory, document_factory.document(), root_file)
    assert verified.vm_id == "02aab8a4-74ef-476e-8182-f6d2ba4166a6"
    assert verified.subscription_id == "8d10da13-8125-4ba9-a717-bf7490507b3d"
    assert verified.sku is None
    assert not verified.plan
    assert verified.raw["nonce"] == "42"


def test_lines_may_be_wrapped_and_the_digest_may_be_the_standard_one(
    document_factory: DocumentFactory, root_file: str
) -> None:
    text = document_factory.document(digest="2.16.840.1.101.3.4.2.1")
    wrapped = "\r\n".join(text[i : i + 64] for i in range(0, len(text), 64)) + "\n"
    assert verify(document_factory, wrapped, root_file).nonce == "42"
    assert verify(document_factory, text.encode(), root_file, nonce=None).nonce == "42"


@pytest.mark.parametrize("at", [AT.replace(tzinfo=None), AT.timestamp()])
def test_the_time_may_be_a_datetime_in_utc_or_seconds(
    document_factory: DocumentFactory, root_file: str, at: Any
) -> None:
    assert verify(document_factory, document_factory.document(), root_file, at=at).created_on == AT


@pytest.mark.parametrize(
    ("name", "cloud", "error"),
    [
        ("metadata.azure.com", None, None),
        ("westus.metadata.azure.com", "AzurePublicCloud", None),
        ("METADATA.AZURE.COM", None, None),
        ("*.metadata.azure.com", None, None),
        ("metadata.azure.us", None, None),
        ("metadata.azure.us", "azureusgovernmentcloud", None),
        ("metadata.azure.cn", "AzureChinaCloud", None),
        ("metadata.microsoftazure.de", "AzureGermanCloud", None),
        ("metadata.microsoftazure.de", None, errors.WrongCloudError),
        ("metadata.azure.us", "AzurePublicCloud", errors.WrongCloudError),
        ("evilmetadata.azure.com", None, errors.WrongSignerError),
        ("metadata.azure.com.evil.example", None, errors.WrongSignerError),
        ("azure.com", None, errors.WrongSignerError),
        ("*.azure.com", None, errors.WrongSignerError),
        ("metadata.azure.co", None, errors.WrongSignerError),
        ("metadata.azure.com", "AzureStack", errors.UnsupportedOnHostError),
        ("metadata.azure.com", "Azure", ValueError),
    ],
)
def test_the_host_name_of_the_signer_decides(
    document_factory: DocumentFactory, root_file: str, name: str, cloud: Any, error: Any
) -> None:
    document = document_factory.document(document_factory.signer(name))
    if error is None:
        assert verify(document_factory, document, root_file, cloud=cloud).vm_id
    else:
        with pytest.raises(error) as caught:
            verify(document_factory, document, root_file, cloud=cloud)
        assert type(caught.value) is error


def test_the_common_name_does_not_count(document_factory: DocumentFactory, root_file: str) -> None:
    evil = document_factory.signer("evil.example", common_name="metadata.azure.com")
    with pytest.raises(
        errors.WrongSignerError, match=r"names evil\.example, which is not an Azure"
    ):
        verify(document_factory, document_factory.document(evil), root_file)
    unnamed = document_factory.signer(None, common_name="metadata.azure.com")
    with pytest.raises(errors.WrongSignerError, match="names no host"):
        verify(document_factory, document_factory.document(unnamed), root_file)


def test_a_decoy_certificate_is_refused(document_factory: DocumentFactory, root_file: str) -> None:
    real, evil = document_factory.signer(), document_factory.signer("evil.example")
    for decoys in ([real, evil], [evil, real]):
        with pytest.raises(errors.WrongSignerError):
            verify(
                document_factory, document_factory.document(evil, certificates=decoys), root_file
            )
        with pytest.raises(errors.MalformedDocumentError, match="outside its chain"):
            verify(
                document_factory, document_factory.document(real, certificates=decoys), root_file
            )


def test_a_certificate_that_the_chain_does_not_contain_is_refused(
    document_factory: DocumentFactory, root_file: str
) -> None:
    signer, authority = document_factory.signer(), document_factory.authority
    other = document_factory.root.issue("another", ca=True, usage="certificates")
    for extra in ([other], [authority, other], [authority, authority]):
        document = document_factory.document(signer, certificates=[signer, *extra])
        with pytest.raises(errors.MalformedDocumentError, match="outside its chain"):
            verify(document_factory, document, root_file)
    for part in ([authority], [document_factory.root], [document_factory.root, authority]):
        document = document_factory.document(signer, certificates=[signer, *part])
        assert verify(document_factory, document, root_file).vm_id


def test_a_decoy_with_the_signer_s_serial_number_is_refused(
    document_factory: DocumentFactory, root_file: str
) -> None:
    real = document_factory.signer()
    decoy = document_factory.signer(serial=real.certificate.serial_number)
    with pytest.raises(errors.SignerNotFoundError, match="contains 2 certificates"):
        verify(
            document_factory, document_factory.document(real, certificates=[decoy, real]), root_file
        )
    # A certificate of another issuer may have the same number.
    other = issue_certificate("another authority", ca=True, usage="certificates")
    foreign = other.issue("evil.example", serial=real.certificate.serial_number)
    with pytest.raises(errors.MalformedDocumentError, match="outside its chain"):
        verify(
            document_factory,
            document_factory.document(real, certificates=[foreign, real]),
            root_file,
        )
    with pytest.raises(errors.SignerNotFoundError, match="contains 0 certificates"):
        verify(document_factory, document_factory.document(real, certificates=[foreign]), root_file)
    with pytest.raises(errors.SignerNotFoundError, match="contains 0 certificates"):
        verify(
            document_factory,
            document_factory.document(real, certificates=[document_factory.signer()]),
            root_file,
        )


def test_modified_content_is_refused(document_factory: DocumentFactory, root_file: str) -> None:
    with pytest.raises(errors.WrongSignatureError, match="was modified"):
        verify(document_factory, document_factory.document(shown=content(vmId="other")), root_file)


def test_a_missing_intermediate_is_reported(
    document_factory: DocumentFactory, root_file: str
) -> None:
    with pytest.raises(
        errors.MissingIntermediateError, match="CN=authority is missing, which issued"
    ) as e:
        verify(document_factory, document_factory.document(), root_file, intermediates=[])
    assert "intermediates" in str(e.value)


def test_an_intermediate_may_be_in_the_document_or_in_the_ca_file(
    document_factory: DocumentFactory, root_file: str, tmp_path: Path
) -> None:
    signer = document_factory.signer()
    document = document_factory.document(signer, certificates=[signer, document_factory.authority])
    assert verify(document_factory, document, root_file, intermediates=[]).vm_id
    anchor = document_factory.write(tmp_path / "authority.pem", document_factory.authority)
    assert verify(document_factory, document_factory.document(), anchor, intermediates=[]).vm_id
    pinned = document_factory.write(tmp_path / "signer.pem", signer)
    assert verify(
        document_factory, document_factory.document(signer), pinned, intermediates=[]
    ).vm_id


def test_a_root_that_is_not_trusted_is_reported_as_an_unknown_root(
    document_factory: DocumentFactory, tmp_path: Path
) -> None:
    other = document_factory.write(
        tmp_path / "other.pem", issue_certificate("another root", ca=True)
    )
    below = document_factory.authority.certificate
    with pytest.raises(errors.UnknownRootError, match="CN=root, which is not a trusted root"):
        verify(document_factory, document_factory.document(), other, intermediates=[below])


def test_malformed_certificates_in_a_ca_file_are_skipped(
    document_factory: DocumentFactory, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle.pem"
    document_factory.write(bundle, document_factory.root)
    # Bundles of some systems have certificates that cryptography refuses.
    malformed = base64.encodebytes(b"\x30\x03\x02\x01\x00").decode()
    frame = "-----BEGIN CERTIFICATE-----\n{}-----END CERTIFICATE-----\n"
    bundle.write_text(f"# roots\n{frame.format(malformed)}{bundle.read_text()}")
    verified = verify_attested_document(
        document_factory.document(),
        nonce="42",
        at=AT,
        ca_file=bundle,
        intermediates=document_factory.authority.certificate,  # type: ignore[arg-type]
        offline=True,
    )
    assert verified.vm_id
    bundle.write_text(frame.format(malformed))
    with pytest.raises(ValueError, match=r"bundle\.pem contains no valid certificates"):
        verify(document_factory, document_factory.document(), str(bundle))


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()], ids=lambda curve: curve.name)
def test_authorities_may_have_elliptic_keys(
    document_factory: DocumentFactory, tmp_path: Path, curve: Any
) -> None:
    root = issue_certificate(
        "EC root", ca=True, usage="certificates", key=ec.generate_private_key(curve)
    )
    below = root.issue(
        "EC authority", ca=True, usage="certificates", key=ec.generate_private_key(curve)
    )
    signer = below.issue("metadata.azure.com", names=["metadata.azure.com"])
    anchor = document_factory.write(tmp_path / "root.pem", root)
    known = [below.certificate]
    assert verify(
        document_factory, document_factory.document(signer), anchor, intermediates=known
    ).vm_id


def test_roots_are_trusted_in_addition(document_factory: DocumentFactory, root_file: str) -> None:
    options: dict[str, Any] = {
        "intermediates": [document_factory.authority.certificate],
        "roots": document_factory.root.certificate,
        "offline": True,
    }
    text = document_factory.document()
    assert verify_attested_document(text, nonce="42", at=AT, **options).vm_id
    for real in REAL[-1:]:  # the usual roots are still trusted
        at = created_on(real)
        assert verify_attested_document(real["document"], nonce=None, at=at, **options).vm_id
    # A CA file replaces the usual roots, but not these.
    options |= {"ca_file": DocumentFactory().write(Path(root_file), DocumentFactory().root)}
    assert verify_attested_document(text, nonce="42", at=AT, **options).vm_id
    for real in REAL[-1:]:
        with pytest.raises(errors.UntrustedSignerError):
            at = created_on(real)
            verify_attested_document(real["document"], nonce=None, at=at, **options)


def test_the_root_of_azure_in_china_is_trusted() -> None:
    names = [root.subject.rfc4514_string() for root in trust.roots()]
    assert any(name.startswith("CN=DigiCert Global Root CA,") for name in names)


def test_an_unknown_root_is_refused(document_factory: DocumentFactory, tmp_path: Path) -> None:
    other = DocumentFactory()
    chain = [document_factory.authority.certificate, document_factory.root.certificate]
    with pytest.raises(errors.UnknownRootError, match="CN=root, which is not a trusted root"):
        verify_attested_document(
            document_factory.document(), nonce=None, at=AT, intermediates=chain, offline=True
        )
    # Another root with the same name does not make it trusted.
    other_root = other.write(tmp_path / "other.pem", other.root)
    with pytest.raises(errors.UntrustedSignerError, match="not signed by"):
        verify(document_factory, document_factory.document(), other_root, intermediates=chain)


@pytest.mark.parametrize(
    ("signer", "message"),
    [
        ({"ca": True, "usage": "certificates"}, "must not be used for signatures"),
        ({"ca": True, "usage": "signatures"}, "is not valid: "),
        ({"purpose": "1.3.6.1.5.5.7.3.3"}, "is not valid: .*EKU"),
        ({"critical": True}, "is not valid: .*extension"),
    ],
)
def test_the_signer_s_certificate_must_allow_signatures_of_a_server(
    document_factory: DocumentFactory, root_file: str, signer: Any, message: str
) -> None:
    with pytest.raises(errors.UntrustedSignerError, match=message):
        verify(
            document_factory,
            document_factory.document(document_factory.signer(**signer)),
            root_file,
        )


@pytest.mark.parametrize(
    "authority",
    [{"ca": False}, {"usage": "signatures"}, {"constrained": True}, {"key_size": 1024}],
)
def test_an_intermediate_must_be_an_authority(
    document_factory: DocumentFactory, root_file: str, authority: Any
) -> None:
    bad = document_factory.root.issue(
        "bad authority", **{"ca": True, "usage": "certificates", **authority}
    )
    signer = bad.issue("metadata.azure.com", names=["metadata.azure.com"])
    with pytest.raises(errors.UntrustedSignerError, match=r"chain of .* is not valid: "):
        verify(
            document_factory,
            document_factory.document(signer),
            root_file,
            intermediates=[bad.certificate],
        )


def test_the_path_length_of_an_authority_is_enforced(
    document_factory: DocumentFactory, root_file: str
) -> None:
    short = document_factory.root.issue("short", ca=True, usage="certificates", path_length=0)
    below = short.issue("below", ca=True, usage="certificates")
    signer = below.issue("metadata.azure.com", names=["metadata.azure.com"])
    chain = [short.certificate, below.certificate]
    with pytest.raises(errors.UntrustedSignerError, match=r"chain of .* is not valid: "):
        verify(document_factory, document_factory.document(signer), root_file, intermediates=chain)


def test_circular_chains_are_refused(document_factory: DocumentFactory) -> None:
    """Without a limit, the search through these certificates takes hours in cryptography 42."""
    key = ec.generate_private_key(ec.SECP256R1())
    a = issue_certificate("a", ca=True, usage="certificates", key=key)
    b = a.issue("b", ca=True, usage="certificates", key=key)
    mesh = [
        issuer.issue(name, ca=True, usage="certificates", key=key).certificate
        for issuer in (a, b)
        for name in ("a", "b")
        for _ in range(10)
    ]
    signer = a.issue("metadata.azure.com", names=["metadata.azure.com"])
    anchors = (document_factory.root.certificate,)
    before = time.monotonic()
    with pytest.raises(errors.UntrustedSignerError):
        check_chain(
            signer.certificate,
            "metadata.azure.com",
            AT,
            TrustMaterial(anchors, tuple(mesh), lambda _: ()),
        )
    assert time.monotonic() - before < 10


@pytest.mark.parametrize(
    ("hours", "error"),
    [
        (-0.05, None),
        (6.05, None),
        (-0.2, errors.NotYetValidError),
        (6.2, errors.DocumentExpiredError),
    ],
)
def test_the_times_of_the_document_are_enforced_with_a_small_skew(
    document_factory: DocumentFactory, root_file: str, hours: float, error: Any
) -> None:
    at = AT + dt.timedelta(hours=hours)
    if error is None:
        assert verify(document_factory, document_factory.document(), root_file, at=at).vm_id
    else:
        with pytest.raises(error):
            verify(document_factory, document_factory.document(), root_file, at=at)


@pytest.mark.parametrize(
    ("days", "error"),
    [((-9, -1), errors.CertificateExpiredError), ((1, 9), errors.NotYetValidError)],
)
def test_every_certificate_must_be_valid_at_the_time(
    document_factory: DocumentFactory, root_file: str, days: tuple[int, int], error: Any
) -> None:
    with pytest.raises(error, match=r"CN=metadata\.azure\.com"):
        verify(
            document_factory,
            document_factory.document(document_factory.signer(days=days)),
            root_file,
        )
    old = document_factory.root.issue("old authority", ca=True, usage="certificates", days=days)
    signer = old.issue("metadata.azure.com", names=["metadata.azure.com"])
    with pytest.raises(error, match="CN=old authority"):
        verify(
            document_factory,
            document_factory.document(signer),
            root_file,
            intermediates=[old.certificate],
        )


@pytest.mark.parametrize(
    "signed",
    [
        b"",
        b"{",
        b"[]",
        b"[" * 20_000,
        content(timeStamp="06/01/26 00:00:00 -0000"),
        content(timeStamp=[1]),
        content(timeStamp={"createdOn": "13/40/26 00:00:00 -0000", "expiresOn": ""}),
        content(timeStamp={"createdOn": 1, "expiresOn": 2}),
        content(vmId=""),
        content(vmId=["x"]),
        content(plan="x"),
    ],
)
def test_malformed_signed_content_is_refused(
    document_factory: DocumentFactory, root_file: str, signed: bytes
) -> None:
    document = document_factory.document(signed=signed)
    with pytest.raises(errors.MalformedDocumentError, match="The signed content"):
        verify(document_factory, document, root_file)


def test_a_document_of_a_classic_vm_without_times_requires_a_nonce(
    document_factory: DocumentFactory, root_file: str
) -> None:
    empty: list[Any] = [{}, None, "", {"createdOn": "", "expiresOn": ""}]
    for times in empty:
        document = document_factory.document(signed=content(timeStamp=times))
        verified = verify(document_factory, document, root_file)
        assert (verified.created_on, verified.expires_on) == (None, None)
        with pytest.raises(errors.MalformedDocumentError, match="verify it with a nonce"):
            verify(document_factory, document, root_file, nonce=None)
    only_vm = document_factory.document(signed=b'{"vmId": "classic"}')
    assert read_unverified(only_vm).vm_id == "classic"
    with pytest.raises(errors.WrongNonceError):
        verify(document_factory, only_vm, root_file)


@pytest.mark.parametrize("document", ["", "?", "AAAA", "MIIB", "ü", "A" * 200_000, b"\xff"])
def test_anything_but_a_document_is_refused(
    document_factory: DocumentFactory, root_file: str, document: Any
) -> None:
    with pytest.raises(errors.MalformedDocumentError):
        verify(document_factory, document, root_file)


def test_an_oversized_document_is_not_parsed(
    document_factory: DocumentFactory, root_file: str
) -> None:
    certificates = [document_factory.signer(), *[document_factory.authority] * 8]
    document = document_factory.document(certificates[0], certificates=certificates)
    assert read_unverified(document).vm_id
    certificates += [document_factory.authority] * 30
    with pytest.raises(errors.MalformedDocumentError, match="larger than 32768 characters"):
        verify(
            document_factory,
            document_factory.document(certificates[0], certificates=certificates),
            root_file,
        )


def test_a_document_has_a_maximum_age(document_factory: DocumentFactory, root_file: str) -> None:
    document = document_factory.document()
    later = AT + dt.timedelta(seconds=61)
    assert verify(document_factory, document, root_file, at=later, max_age=61)
    with pytest.raises(errors.DocumentExpiredError, match="was signed 61 s ago"):
        verify(document_factory, document, root_file, at=later, max_age=60)
    early = AT - dt.timedelta(seconds=60)
    assert verify(document_factory, document, root_file, at=early, max_age=1)
    classic = document_factory.document(signed=content(timeStamp={}))
    with pytest.raises(errors.MalformedDocumentError, match="no timeStamp"):
        verify(document_factory, classic, root_file, max_age=60)
    for wrong in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="max_age must be"):
            verify(document_factory, document, root_file, max_age=wrong)


def test_invalid_arguments_are_refused(
    document_factory: DocumentFactory, root_file: str, tmp_path: Path
) -> None:
    document = document_factory.document()
    with pytest.raises(TypeError, match="not dict"):
        verify(document_factory, {}, root_file)
    for wrong, message in (
        ({"nonce": 42}, "nonce must be a string, or None to accept any, not 42"),
        ({"cloud": 3}, "cloud must be a Cloud or its azEnvironment, not 3"),
        ({"intermediates": [tmp_path]}, "must be PEM, DER or x509.Certificate, not "),
    ):
        with pytest.raises(ValueError, match=message):
            verify(document_factory, document, root_file, **wrong)
    with pytest.raises(ValueError, match="at must be"):
        verify(document_factory, document, root_file, at="today")
    with pytest.raises(FileNotFoundError):
        verify(document_factory, document, str(tmp_path / "none"))
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(ValueError, match="contains no valid certificates"):
        verify(document_factory, document, str(tmp_path / "empty"))


def test_an_unverified_document_has_no_cloud(
    document_factory: DocumentFactory,
) -> None:
    evil = document_factory.document(document_factory.signer("evil.example"))
    document = read_unverified(evil)
    assert document.vm_id
    assert document.cloud is None


@functools.cache
def valid_document() -> bytes:
    return base64.b64decode(DocumentFactory().document())


@given(st.binary(max_size=300) | st.builds(lambda b: b"\x30\x82" + b, st.binary(max_size=300)))
def test_random_bytes_are_refused_with_a_documented_error(data: bytes) -> None:
    with pytest.raises(errors.AttestedDocumentError):
        verify_attested_document(base64.b64encode(data), nonce=None, offline=True)


@settings(max_examples=120)
@given(st.data())
def test_modified_documents_are_refused(data: st.DataObject) -> None:
    der = valid_document()
    start = data.draw(st.integers(0, len(der) - 1))
    length = data.draw(st.integers(0, 40))
    inserted = data.draw(st.binary(max_size=40))
    modified = der[:start] + inserted + der[start + length :]
    if modified == der:
        return
    with pytest.raises(errors.AttestedDocumentError):
        verify_attested_document(base64.b64encode(modified), nonce=None, at=AT, offline=True)


@pytest.mark.parametrize("digest", ["1.2.840.113549.1.1.11", "2.16.840.1.101.3.4.2.1"])
def test_no_byte_of_the_algorithm_identifiers_can_be_modified(
    document_factory: DocumentFactory, root_file: str, digest: str
) -> None:
    document = document_factory.document(digest=digest)
    assert verify(document_factory, document, root_file).vm_id
    der = base64.b64decode(document)
    bits = {1 << bit for bit in range(8)}
    generator = random.Random(digest)
    # Two algorithm identifiers precede the signature: the last 256 bytes, and 4 for its length.
    for position in range(len(der) - 256 - 4 - 30, len(der) - 256):
        for mask in bits | set(generator.sample(range(1, 256), 24)):
            modified = bytearray(der)
            modified[position] ^= mask
            with pytest.raises(errors.AttestedDocumentError):
                verify(document_factory, base64.b64encode(modified), root_file)


class Value:
    """A value in DER that can be encoded in other ways."""

    def __init__(self, tag: int, content: bytes) -> None:
        self.tag = tag
        self.content = content
        self.children = parsed(content) if tag & 0x20 else []
        self.extra = 0

    def encoded(self) -> bytes:
        content = b"".join(each.encoded() for each in self.children) or self.content
        length = len(content)
        if length < 0x80 and not self.extra:
            return bytes([self.tag, length]) + content
        size = bytes(self.extra - 1) if self.extra else b""
        size += length.to_bytes((length.bit_length() + 7) // 8 or 1, "big")
        return bytes([self.tag, 0x80 | len(size)]) + size + content

    def descendants(self) -> list[Value]:
        return [self, *(found for each in self.children for found in each.descendants())]


def parsed(der: bytes) -> list[Value]:
    found, position = [], 0
    while position < len(der):
        tag, length, position = der[position], der[position + 1], position + 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(der[position : position + size], "big")
            position += size
        found.append(Value(tag, der[position : position + length]))
        position += length
    return found


def other_encodings(der: bytes) -> Iterator[bytes]:
    """Return other encodings of the same values, which BER allows and DER does not."""
    (document,) = parsed(der)
    assert document.encoded() == der
    for value in document.descendants():
        for value.extra in (1, 2):
            yield document.encoded()
        value.extra = 0
        # Primitive values; a leading zero of a number, or of the first part of an identifier.
        tag, content = value.tag, value.content
        padding = {0x01: b"", 0x02: b"\0", 0x06: b"\x80"}.get(tag)
        if padding is not None:
            value.content = padding + content if padding else b"\x01"
            yield document.encoded()
        if tag == 0x04:
            value.tag, value.children = 0x24, [Value(4, content[:3]), Value(4, content[3:])]
            yield document.encoded()
        value.tag, value.content = tag, content
        value.children = value.children if tag & 0x20 else []


def test_no_other_encoding_of_a_document_is_accepted(
    document_factory: DocumentFactory, root_file: str
) -> None:
    signer = document_factory.signer()
    certificates = [signer, document_factory.authority]
    der = base64.b64decode(document_factory.document(signer, certificates=certificates))
    assert verify(document_factory, base64.b64encode(der), root_file).vm_id
    encodings = {each for each in other_encodings(der) if each != der}
    assert len(encodings) > 200
    for each in encodings:
        with pytest.raises(errors.AttestedDocumentError):
            verify(document_factory, base64.b64encode(each), root_file)


def test_other_forms_of_signed_data_are_refused(
    document_factory: DocumentFactory, root_file: str
) -> None:
    signer = document_factory.signer()
    for form in (
        {"version": "v3"},
        {"signed_attrs": True},
        {"unsigned_attrs": True},
        {"signature_algorithm": "1.2.840.113549.1.1.5"},
        {"signature_algorithm": "1.2.840.113549.1.1.11"},
        {"signature_algorithm": "1.2.840.10045.4.3.2"},
        {"signature_algorithm": "2.16.840.1.101.3.4.2.1"},
        {"digest": "1.3.14.3.2.26"},
        {"signers": 2},
        {"signers": 0},
    ):
        document = signed_data(signer, content(), [signer], **form)
        with pytest.raises(errors.MalformedDocumentError):
            verify(document_factory, document, root_file)
