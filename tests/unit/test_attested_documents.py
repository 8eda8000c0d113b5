"""Verification of attested documents: real ones, minted ones, and each way to be wrong."""

from __future__ import annotations

import base64
import datetime as dt
import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from attested_support import AT, DocumentFactory, content, issued, signed_data
from imds_identity.metadata import errors, verify_attested_document
from imds_identity.metadata import read_attested_document_without_verifying as read_unverified
from imds_identity.metadata._attestation.chain import Certificates, check_chain
from imds_identity.metadata._attestation.trust import certificates, intermediates, roots

if TYPE_CHECKING:
    from cryptography import x509

REFERENCE = Path(__file__).parents[3] / "shared/reference/attested/documents.json"
REAL: list[dict[str, str]] = json.loads(REFERENCE.read_text()) if REFERENCE.exists() else []


def own_time(document: dict[str, str]) -> dt.datetime:
    return dt.datetime.strptime(document["createdOn"], "%m/%d/%y %H:%M:%S %z")


@pytest.fixture(scope="module")
def token_factory() -> DocumentFactory:
    return DocumentFactory()


@pytest.fixture
def root_file(token_factory: DocumentFactory, tmp_path: Path) -> str:
    return token_factory.write(tmp_path / "root.pem", token_factory.root)


def verify(token_factory: DocumentFactory, document: Any, root_file: str, **more: Any) -> Any:
    more = {"nonce": "42", "at": AT, "intermediates": [token_factory.authority.certificate], **more}
    return verify_attested_document(document, ca_file=root_file, offline=True, **more)


@pytest.mark.parametrize("document", REAL, ids=lambda document: document["createdOn"][:8])
class TestRealDocuments:
    def test_they_verify_at_their_own_time(self, document: dict[str, str]) -> None:
        at = own_time(document)
        verified = verify_attested_document(
            document["document"], nonce=document["nonce"], at=at, offline=True
        )
        assert verified.vm_id == document["vmId"]
        assert verified.nonce == document["nonce"]
        assert verified.created_on == at
        assert verified.expires_on == at + dt.timedelta(hours=6)
        assert verified.cloud is not None
        assert verified.cloud.name == "AzurePublicCloud"

    def test_they_are_refused_today_as_expired(self, document: dict[str, str]) -> None:
        with pytest.raises(errors.DocumentExpiredError, match="expired on 20"):
            verify_attested_document(document["document"], nonce=None, offline=True)

    def test_another_nonce_is_refused(self, document: dict[str, str]) -> None:
        with pytest.raises(errors.WrongNonceError, match="another request"):
            verify_attested_document(
                document["document"], nonce="1", at=own_time(document), offline=True
            )

    def test_another_cloud_is_refused(self, document: dict[str, str]) -> None:
        with pytest.raises(errors.WrongCloudError, match=r"of AzurePublicCloud, not of AzureChina"):
            verify_attested_document(
                document["document"], nonce=None, at=own_time(document), cloud="AZURECHINACLOUD"
            )

    def test_any_changed_byte_is_refused(self, document: dict[str, str]) -> None:
        der, at = base64.b64decode(document["document"]), own_time(document)
        dice = random.Random(document["vmId"])
        # One in seven, others for each document: all together take half a minute.
        for position in range(dice.randrange(7), len(der), 7):
            changed = bytearray(der)
            changed[position] ^= dice.randrange(1, 256)
            text = base64.b64encode(changed).decode()
            with pytest.raises(errors.AttestedDocumentError):
                verify_attested_document(text, nonce=None, at=at, offline=True)

    def test_any_changed_character_is_refused(self, document: dict[str, str]) -> None:
        text, at = document["document"], own_time(document)
        for position in range(0, len(text), 23):
            for other in "A=\n-":
                if text[position] == other:
                    continue
                changed = text[:position] + other + text[position + 1 :]
                with pytest.raises(errors.AttestedDocumentError):
                    verify_attested_document(changed, nonce=None, at=at, offline=True)


@pytest.mark.parametrize("authority", intermediates(), ids=lambda c: hex(c.serial_number)[:9])
def test_every_bundled_intermediate_stands_under_a_root(authority: x509.Certificate) -> None:
    from imds_identity.metadata._attestation.chain import _Search

    at = authority.not_valid_before_utc + dt.timedelta(days=1)
    _Search(at, Certificates(roots(), (), lambda _: ())).climb(authority, 1)


def test_a_name_of_any_type_of_string_is_read_or_refused(token_factory: DocumentFactory) -> None:
    der = token_factory.root.certificate.public_bytes(Encoding.DER)
    common_name = bytes.fromhex("0603550403")  # id-at-commonName; the string's type comes next
    assert common_name in der
    refused = []
    for tag in range(256):
        try:
            assert certificates(der.replace(common_name + b"\x0c", common_name + bytes([tag])))
        except ValueError as error:
            refused.append(str(error))
    assert refused
    assert all("this is no certificate in PEM or DER (" in each for each in refused)


def test_a_minted_document_verifies(token_factory: DocumentFactory, root_file: str) -> None:
    verified = verify(token_factory, token_factory.document(), root_file)
    assert verified.vm_id == "02aab8a4-74ef-476e-8182-f6d2ba4166a6"
    assert verified.subscription_id == "8d10da13-8125-4ba9-a717-bf7490507b3d"
    assert verified.sku is None
    assert not verified.plan
    assert verified.raw["nonce"] == "42"


def test_lines_may_be_wrapped_and_the_digest_written_as_the_standard_says(
    token_factory: DocumentFactory, root_file: str
) -> None:
    text = token_factory.document(digest="2.16.840.1.101.3.4.2.1")
    wrapped = "\r\n".join(text[i : i + 64] for i in range(0, len(text), 64)) + "\n"
    assert verify(token_factory, wrapped, root_file).nonce == "42"
    assert verify(token_factory, text.encode(), root_file, nonce=None).nonce == "42"


@pytest.mark.parametrize("at", [AT.replace(tzinfo=None), AT.timestamp()])
def test_the_time_may_be_a_datetime_in_utc_or_seconds(
    token_factory: DocumentFactory, root_file: str, at: Any
) -> None:
    assert verify(token_factory, token_factory.document(), root_file, at=at).created_on == AT


@pytest.mark.parametrize(
    ("name", "cloud", "error"),
    [
        ("metadata.azure.com", None, None),
        ("westus.metadata.azure.com", "AzurePublicCloud", None),
        ("METADATA.AZURE.COM", None, None),
        ("metadata.azure.us", None, None),
        ("metadata.azure.us", "azureusgovernmentcloud", None),
        ("metadata.azure.cn", "AzureChinaCloud", None),
        ("metadata.microsoftazure.de", "AzureGermanCloud", None),
        ("metadata.azure.us", "AzurePublicCloud", errors.WrongCloudError),
        ("evilmetadata.azure.com", None, errors.WrongSignerError),
        ("metadata.azure.com.evil.example", None, errors.WrongSignerError),
        ("azure.com", None, errors.WrongSignerError),
        ("*.azure.com", None, errors.WrongSignerError),
        ("metadata.azure.co", None, errors.WrongSignerError),
        ("metadata.azure.com", "AzureStack", errors.NotOfferedError),
        ("metadata.azure.com", "Azure", ValueError),
    ],
)
def test_the_signer_s_name_decides(
    token_factory: DocumentFactory, root_file: str, name: str, cloud: Any, error: Any
) -> None:
    document = token_factory.document(token_factory.signer(name))
    if error is None:
        assert verify(token_factory, document, root_file, cloud=cloud).vm_id
    else:
        with pytest.raises(error) as caught:
            verify(token_factory, document, root_file, cloud=cloud)
        assert type(caught.value) is error


def test_a_common_name_counts_only_where_no_names_are_listed(
    token_factory: DocumentFactory, root_file: str
) -> None:
    evil = token_factory.signer("evil.example", common_name="metadata.azure.com")
    with pytest.raises(errors.WrongSignerError, match=r"names evil\.example, no metadata service"):
        verify(token_factory, token_factory.document(evil), root_file)
    old = token_factory.signer(None, common_name="metadata.azure.com")
    assert verify(token_factory, token_factory.document(old), root_file).vm_id


def test_a_decoy_certificate_does_not_win(token_factory: DocumentFactory, root_file: str) -> None:
    real, evil = token_factory.signer(), token_factory.signer("evil.example")
    for decoys in ([real, evil], [evil, real]):
        with pytest.raises(errors.WrongSignerError):
            verify(token_factory, token_factory.document(evil, certificates=decoys), root_file)
        assert verify(
            token_factory, token_factory.document(real, certificates=decoys), root_file
        ).vm_id


def test_a_decoy_of_the_signer_s_serial_number_is_refused(
    token_factory: DocumentFactory, root_file: str
) -> None:
    real = token_factory.signer()
    twin = token_factory.signer(serial=real.certificate.serial_number)
    with pytest.raises(errors.SignerNotFoundError, match="holds 2 certificates"):
        verify(token_factory, token_factory.document(real, certificates=[twin, real]), root_file)
    # That of another issuer may have the same number.
    other = issued("authority of others", ca=True, usage="certificates")
    foreign = other.issue("evil.example", serial=real.certificate.serial_number)
    assert verify(
        token_factory, token_factory.document(real, certificates=[foreign, real]), root_file
    ).vm_id
    with pytest.raises(errors.SignerNotFoundError, match="holds 0 certificates"):
        verify(token_factory, token_factory.document(real, certificates=[foreign]), root_file)
    with pytest.raises(errors.SignerNotFoundError, match="holds 0 certificates"):
        verify(
            token_factory,
            token_factory.document(real, certificates=[token_factory.signer()]),
            root_file,
        )


def test_content_that_was_not_signed_is_refused(
    token_factory: DocumentFactory, root_file: str
) -> None:
    with pytest.raises(errors.WrongSignatureError, match="was changed"):
        verify(token_factory, token_factory.document(shown=content(vmId="other")), root_file)


def test_a_missing_intermediate_is_named(token_factory: DocumentFactory, root_file: str) -> None:
    with pytest.raises(errors.MissingIntermediateError, match="CN=authority, which issued") as e:
        verify(token_factory, token_factory.document(), root_file, intermediates=[])
    assert "intermediates" in str(e.value)


def test_an_intermediate_in_the_document_or_the_ca_file_will_do(
    token_factory: DocumentFactory, root_file: str, tmp_path: Path
) -> None:
    signer = token_factory.signer()
    along = token_factory.document(signer, certificates=[signer, token_factory.authority])
    assert verify(token_factory, along, root_file, intermediates=[]).vm_id
    anchor = token_factory.write(tmp_path / "authority.pem", token_factory.authority)
    assert verify(token_factory, token_factory.document(), anchor, intermediates=[]).vm_id
    pinned = token_factory.write(tmp_path / "signer.pem", signer)
    assert verify(token_factory, token_factory.document(signer), pinned, intermediates=[]).vm_id


def test_a_root_that_is_known_but_not_trusted_is_no_missing_intermediate(
    token_factory: DocumentFactory, tmp_path: Path
) -> None:
    stranger = token_factory.write(tmp_path / "stranger.pem", issued("another root", ca=True))
    below = token_factory.authority.certificate
    with pytest.raises(errors.UnknownRootError, match="CN=root, which is not a trusted root"):
        verify(token_factory, token_factory.document(), stranger, intermediates=[below])


def test_a_file_of_anchors_may_hold_some_that_cannot_be_read(
    token_factory: DocumentFactory, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle.pem"
    token_factory.write(bundle, token_factory.root)
    # Systems' own bundles have certificates that cryptography does not take.
    unreadable = base64.encodebytes(b"\x30\x03\x02\x01\x00").decode()
    frame = "-----BEGIN CERTIFICATE-----\n{}-----END CERTIFICATE-----\n"
    bundle.write_text(f"# roots\n{frame.format(unreadable)}{bundle.read_text()}")
    found = verify_attested_document(
        token_factory.document(),
        nonce="42",
        at=AT,
        ca_file=bundle,
        intermediates=token_factory.authority.certificate,  # type: ignore[arg-type]
        offline=True,
    )
    assert found.vm_id
    bundle.write_text(frame.format(unreadable))
    with pytest.raises(ValueError, match=r"bundle\.pem has no certificates in it that can be read"):
        verify(token_factory, token_factory.document(), str(bundle))


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()], ids=lambda curve: curve.name)
def test_authorities_may_have_elliptic_keys(
    token_factory: DocumentFactory, tmp_path: Path, curve: Any
) -> None:
    root = issued("EC root", ca=True, usage="certificates", key=ec.generate_private_key(curve))
    below = root.issue(
        "EC authority", ca=True, usage="certificates", key=ec.generate_private_key(curve)
    )
    signer = below.issue("metadata.azure.com", names=["metadata.azure.com"])
    anchor = token_factory.write(tmp_path / "root.pem", root)
    known = [below.certificate]
    assert verify(token_factory, token_factory.document(signer), anchor, intermediates=known).vm_id


def test_an_unknown_root_is_refused(token_factory: DocumentFactory, tmp_path: Path) -> None:
    stranger = DocumentFactory()
    chain = [token_factory.authority.certificate, token_factory.root.certificate]
    with pytest.raises(errors.UnknownRootError, match="CN=root, which is not a trusted root"):
        verify_attested_document(
            token_factory.document(), nonce=None, at=AT, intermediates=chain, offline=True
        )
    # Another root of the same name does not make it one.
    other = stranger.write(tmp_path / "other.pem", stranger.root)
    with pytest.raises(errors.UntrustedSignerError, match="not signed by"):
        verify(token_factory, token_factory.document(), other, intermediates=chain)


@pytest.mark.parametrize(
    ("signer", "said"),
    [
        ({"ca": True, "usage": "certificates"}, "may not be used for signatures"),
        ({"purpose": "1.3.6.1.5.5.7.3.3"}, "another purpose"),
        ({"critical": True}, "critical extension 1.2.3.4"),
    ],
)
def test_a_signer_s_certificate_must_be_one_for_it(
    token_factory: DocumentFactory, root_file: str, signer: Any, said: str
) -> None:
    with pytest.raises(errors.UntrustedSignerError, match=said):
        verify(token_factory, token_factory.document(token_factory.signer(**signer)), root_file)


@pytest.mark.parametrize(
    ("authority", "said"),
    [
        ({"ca": False}, "is no authority's"),
        ({"usage": "signatures"}, "may not be used to issue"),
        ({"constrained": True}, "limits the names"),
        ({"key_size": 1024}, "too short"),
    ],
)
def test_an_intermediate_must_be_an_authority(
    token_factory: DocumentFactory, root_file: str, authority: Any, said: str
) -> None:
    bad = token_factory.root.issue(
        "bad authority", **{"ca": True, "usage": "certificates", **authority}
    )
    signer = bad.issue("metadata.azure.com", names=["metadata.azure.com"])
    with pytest.raises(errors.UntrustedSignerError, match=said):
        verify(
            token_factory,
            token_factory.document(signer),
            root_file,
            intermediates=[bad.certificate],
        )


def test_a_chain_is_no_longer_than_an_authority_allows(
    token_factory: DocumentFactory, root_file: str
) -> None:
    short = token_factory.root.issue("short", ca=True, usage="certificates", path_length=0)
    below = short.issue("below", ca=True, usage="certificates")
    signer = below.issue("metadata.azure.com", names=["metadata.azure.com"])
    chain = [short.certificate, below.certificate]
    with pytest.raises(errors.UntrustedSignerError, match="allows 0 authorities below it, not 1"):
        verify(token_factory, token_factory.document(signer), root_file, intermediates=chain)


def test_chains_that_run_in_circles_end(token_factory: DocumentFactory) -> None:
    a = token_factory.root.issue("a", ca=True, usage="certificates")
    b = a.issue("b", ca=True, usage="certificates")
    a_again = b.issue("a", ca=True, usage="certificates", key=a.key)
    signer = a.issue("metadata.azure.com", names=["metadata.azure.com"])
    pool = (a_again.certificate, b.certificate) * 40
    with pytest.raises(errors.UntrustedSignerError):
        check_chain(signer.certificate, AT, Certificates((), pool, lambda _: ()))


@pytest.mark.parametrize(
    ("hours", "error"),
    [
        (-0.05, None),
        (6.05, None),
        (-0.2, errors.NotYetValidError),
        (6.2, errors.DocumentExpiredError),
    ],
)
def test_the_document_s_own_times_count_with_a_small_skew(
    token_factory: DocumentFactory, root_file: str, hours: float, error: Any
) -> None:
    at = AT + dt.timedelta(hours=hours)
    if error is None:
        assert verify(token_factory, token_factory.document(), root_file, at=at).vm_id
    else:
        with pytest.raises(error):
            verify(token_factory, token_factory.document(), root_file, at=at)


@pytest.mark.parametrize(
    ("days", "error"),
    [((-9, -1), errors.CertificateExpiredError), ((1, 9), errors.NotYetValidError)],
)
def test_every_certificate_must_be_valid_then(
    token_factory: DocumentFactory, root_file: str, days: tuple[int, int], error: Any
) -> None:
    with pytest.raises(error, match=r"CN=metadata\.azure\.com"):
        verify(token_factory, token_factory.document(token_factory.signer(days=days)), root_file)
    old = token_factory.root.issue("old authority", ca=True, usage="certificates", days=days)
    signer = old.issue("metadata.azure.com", names=["metadata.azure.com"])
    with pytest.raises(error, match="CN=old authority"):
        verify(
            token_factory,
            token_factory.document(signer),
            root_file,
            intermediates=[old.certificate],
        )


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"{",
        b"[]",
        b"[" * 20_000,
        content(timeStamp=None),
        content(timeStamp={}),
        content(timeStamp={"createdOn": "13/40/26 00:00:00 -0000", "expiresOn": ""}),
        content(timeStamp={"createdOn": 1, "expiresOn": 2}),
        content(vmId=""),
        content(vmId=["x"]),
        content(plan="x"),
    ],
)
def test_signed_content_that_is_none_is_refused(
    token_factory: DocumentFactory, root_file: str, said: bytes
) -> None:
    document = token_factory.document(said=said)
    with pytest.raises(errors.MalformedDocumentError, match="The signed content"):
        verify(token_factory, document, root_file)


@pytest.mark.parametrize("document", ["", "?", "AAAA", "MIIB", "ü", "A" * 200_000, b"\xff"])
def test_what_is_no_document_is_refused(
    token_factory: DocumentFactory, root_file: str, document: Any
) -> None:
    with pytest.raises(errors.MalformedDocumentError):
        verify(token_factory, document, root_file)


def test_a_document_of_many_times_its_size_is_not_even_read(
    token_factory: DocumentFactory, root_file: str
) -> None:
    along = [token_factory.signer(), *[token_factory.authority] * 8]
    assert verify(
        token_factory, token_factory.document(along[0], certificates=along), root_file
    ).vm_id
    along += [token_factory.authority] * 30
    with pytest.raises(errors.MalformedDocumentError, match="larger than 32768 characters"):
        verify(token_factory, token_factory.document(along[0], certificates=along), root_file)


def test_wrong_arguments_are_told_so(
    token_factory: DocumentFactory, root_file: str, tmp_path: Path
) -> None:
    document = token_factory.document()
    with pytest.raises(TypeError, match="not dict"):
        verify(token_factory, {}, root_file)
    for wrong, said in (
        ({"nonce": 42}, "nonce must be text, or None to take any, not 42"),
        ({"cloud": 3}, "cloud must be a Cloud or its azEnvironment, not 3"),
        ({"intermediates": [tmp_path]}, "given as PEM, DER or x509.Certificate, not "),
    ):
        with pytest.raises(ValueError, match=said):
            verify(token_factory, document, root_file, **wrong)
    with pytest.raises(ValueError, match="at must be"):
        verify(token_factory, document, root_file, at="today")
    with pytest.raises(FileNotFoundError):
        verify(token_factory, document, str(tmp_path / "none"))
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(ValueError, match="no certificates in it"):
        verify(token_factory, document, str(tmp_path / "empty"))


def test_a_document_can_be_read_unverified_only_by_asking_for_it(
    token_factory: DocumentFactory,
) -> None:
    evil = token_factory.document(token_factory.signer("evil.example"))
    read = read_unverified(evil)
    assert read.vm_id
    assert read.cloud is None


DER = base64.b64decode(DocumentFactory().document())


@given(st.binary(max_size=300) | st.builds(lambda b: b"\x30\x82" + b, st.binary(max_size=300)))
def test_hostile_bytes_are_refused_with_a_documented_error(data: bytes) -> None:
    with pytest.raises(errors.AttestedDocumentError):
        verify_attested_document(base64.b64encode(data), nonce=None, offline=True)


@settings(max_examples=300)
@given(st.data())
def test_cut_spliced_and_changed_documents_are_refused(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(DER) - 1))
    length = data.draw(st.integers(0, 40))
    instead = data.draw(st.binary(max_size=40))
    changed = DER[:start] + instead + DER[start + length :]
    if changed == DER:
        return
    # No root is known for it; but that must not be the reason that any is told.
    with pytest.raises(errors.AttestedDocumentError):
        verify_attested_document(base64.b64encode(changed), nonce=None, at=AT, offline=True)


@pytest.mark.parametrize("digest", ["1.2.840.113549.1.1.11", "2.16.840.1.101.3.4.2.1"])
def test_no_byte_of_the_algorithms_names_can_be_another(
    token_factory: DocumentFactory, root_file: str, digest: str
) -> None:
    document = token_factory.document(digest=digest)
    assert verify(token_factory, document, root_file).vm_id
    der = base64.b64decode(document)
    # Two algorithms stand before the signature, which is the last 256 bytes and their 4 of length.
    for position in range(len(der) - 256 - 4 - 30, len(der) - 256):
        for change in range(1, 256):
            changed = bytearray(der)
            changed[position] ^= change
            with pytest.raises(errors.AttestedDocumentError):
                verify(token_factory, base64.b64encode(changed), root_file)


def test_crafted_forms_are_refused(token_factory: DocumentFactory, root_file: str) -> None:
    signer = token_factory.signer()
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
            verify(token_factory, document, root_file)
