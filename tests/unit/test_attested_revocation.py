"""Revocation lists (CRLs) for the certificates of attested documents."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from attested_support import AT, CertifiedKey, content, issue_certificate, signed_data
from imds_identity.metadata import (
    CertificateRevokedError,
    RevocationUnknownError,
    UntrustedSignerError,
    verify_attested_document,
)
from imds_identity.metadata._attestation import document, revocation
from imds_identity.metadata._attestation.issuers import DownloadFailed
from imds_identity.metadata._attestation.trust import intermediates, roots
from support import FakeClock

if TYPE_CHECKING:
    from pathlib import Path

BASE = "http://www.microsoft.com/pkiops/crl/"
ROOT_LIST, SIGNER_LIST = f"{BASE}root.crl", f"{BASE}authority.crl"


def point(*urls: str, **form: Any) -> x509.DistributionPoint:
    names = [x509.UniformResourceIdentifier(url) for url in urls]
    return x509.DistributionPoint(
        **{"relative_name": None, "reasons": None, "crl_issuer": None, **form, "full_name": names}
    )


def scope(**form: Any) -> x509.IssuingDistributionPoint:
    defaults = {
        "full_name": None,
        "relative_name": None,
        "only_contains_user_certs": False,
        "only_contains_ca_certs": False,
        "only_some_reasons": None,
        "indirect_crl": False,
        "only_contains_attribute_certs": False,
    }
    return x509.IssuingDistributionPoint(**{**defaults, **form})


class Scenario:
    """A chain whose certificates name revocation lists, and a web that has them."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.root = issue_certificate("root", ca=True, usage="certificates")
        self.authority = self.root.issue(
            "authority", ca=True, usage="certificates", list_points=[point(ROOT_LIST)]
        )
        self.signer = self.issue([point(SIGNER_LIST)])
        self.pages = {
            ROOT_LIST: self.list_of(self.root),
            SIGNER_LIST: self.list_of(self.authority),
        }
        self.requested: list[str] = []
        self.cache = revocation.RevocationCache(self.download, self.clock)

    def issue(self, points: list[x509.DistributionPoint]) -> CertifiedKey:
        return self.authority.issue(
            "metadata.azure.com", names=["metadata.azure.com"], list_points=points
        )

    def list_of(
        self,
        issuer: CertifiedKey,
        *revoked: CertifiedKey,
        days: float = 7,
        start: float = -30,
        extension: x509.ExtensionType | None = None,
        key: Any = None,
    ) -> bytes:
        now = dt.datetime.fromtimestamp(self.clock.wall(), dt.timezone.utc)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(issuer.certificate.subject)
            .last_update(now + dt.timedelta(days=start))
            .next_update(now + dt.timedelta(days=days))
            .add_extension(x509.CRLNumber(1), critical=False)
        )
        if extension:
            builder = builder.add_extension(extension, critical=True)
        for each in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(each.certificate.serial_number)
            builder = builder.add_revoked_certificate(entry.revocation_date(now).build())
        return builder.sign(key or issuer.key, hashes.SHA256()).public_bytes(Encoding.DER)

    def download(self, url: str) -> bytes:
        self.requested.append(url)
        if url not in self.pages:
            raise DownloadFailed("HTTP 404")
        return self.pages[url]

    def check(self, signer: CertifiedKey | None = None) -> None:
        chain = (signer or self.signer, self.authority, self.root)
        self.cache.check([each.certificate for each in chain])


@pytest.fixture(scope="module")
def keys() -> Scenario:
    return Scenario()


@pytest.fixture
def scenario(keys: Scenario) -> Scenario:
    """A new web and cache; creating keys takes long."""
    keys.pages = {
        ROOT_LIST: keys.list_of(keys.root),
        SIGNER_LIST: keys.list_of(keys.authority),
    }
    keys.requested = []
    keys.cache = revocation.RevocationCache(keys.download, keys.clock)
    return keys


def test_lists_are_downloaded_once_an_hour(scenario: Scenario) -> None:
    scenario.check()
    scenario.check()
    assert scenario.requested == [SIGNER_LIST, ROOT_LIST]
    scenario.clock.seconds += 3601
    scenario.check()
    assert scenario.requested == [SIGNER_LIST, ROOT_LIST] * 2


def test_revoked_certificate_is_refused(scenario: Scenario) -> None:
    scenario.pages[SIGNER_LIST] = scenario.list_of(scenario.authority, scenario.signer)
    with pytest.raises(CertificateRevokedError, match=r"of CN=metadata\.azure\.com was revoked on"):
        scenario.check()
    scenario.check(scenario.issue([point(SIGNER_LIST)]))


def test_revoked_authority_is_refused(scenario: Scenario) -> None:
    scenario.pages[ROOT_LIST] = scenario.list_of(scenario.root, scenario.authority)
    with pytest.raises(CertificateRevokedError, match="of CN=authority was revoked on"):
        scenario.check()


def test_document_is_refused_only_if_revocation_is_checked(
    scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario.pages[SIGNER_LIST] = scenario.list_of(scenario.authority, scenario.signer)
    monkeypatch.setattr(document, "revocation_cache", lambda _: scenario.cache)
    text = signed_data(scenario.signer, content(), [scenario.signer, scenario.authority])
    root = tmp_path / "root.pem"
    root.write_bytes(scenario.root.certificate.public_bytes(Encoding.PEM))
    options: dict[str, Any] = {"nonce": "42", "at": AT, "ca_file": root}
    assert verify_attested_document(text, **options).vm_id
    assert scenario.requested == []
    with pytest.raises(CertificateRevokedError):
        verify_attested_document(text, **options, check_revocation=True)
    with pytest.raises(ValueError, match="check_revocation=True requires downloads"):
        verify_attested_document(text, **options, check_revocation=True, offline=True)


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (None, "no revocation list from http://www.microsoft.com/pkiops/crl/authority.crl"),
        (b"", "no revocation list from"),
        (b"junk", "no revocation list from"),
        ({"days": -1}, "expired on"),
        ({"start": 1}, "is valid from"),
        ({"key": "other"}, "signature of its revocation list is not valid"),
        ({"issuer": "root"}, "has another issuer"),
        ({"extension": x509.DeltaCRLIndicator(1)}, "is for other certificates"),
        ({"extension": scope(only_contains_ca_certs=True)}, "is for other certificates"),
        ({"extension": scope(indirect_crl=True)}, "is for other certificates"),
        ({"extension": scope(only_contains_attribute_certs=True)}, "is for other certificates"),
        (
            {"extension": scope(only_some_reasons=frozenset([x509.ReasonFlags.key_compromise]))},
            "is for other certificates",
        ),
        (
            {"extension": scope(full_name=[x509.UniformResourceIdentifier(f"{BASE}2.crl")])},
            "is for other certificates",
        ),
    ],
)
def test_certificate_without_a_valid_list_is_refused(
    scenario: Scenario, page: Any, reason: str
) -> None:
    del scenario.pages[SIGNER_LIST]
    if isinstance(page, dict):
        issuer = scenario.root if "issuer" in page else scenario.authority
        form = {**page, "key": scenario.root.key if "key" in page else None}
        form.pop("issuer", None)
        scenario.pages[SIGNER_LIST] = scenario.list_of(issuer, **form)
    elif page is not None:
        scenario.pages[SIGNER_LIST] = page
    for _ in range(2):
        with pytest.raises(RevocationUnknownError, match=reason) as caught:
            scenario.check()
    assert isinstance(caught.value, UntrustedSignerError)
    assert scenario.requested == [SIGNER_LIST]
    # A failure is remembered for a few minutes.
    scenario.pages[SIGNER_LIST] = scenario.list_of(scenario.authority)
    scenario.clock.seconds += 301
    scenario.check()


def test_list_of_the_partition_of_the_certificate_is_accepted(scenario: Scenario) -> None:
    """Azure's issuers since 2026 have such lists."""
    names = [x509.UniformResourceIdentifier(url) for url in (f"{BASE}2.crl", SIGNER_LIST)]
    partition = scope(full_name=names, only_contains_user_certs=True)
    scenario.pages[SIGNER_LIST] = scenario.list_of(scenario.authority, extension=partition)
    scenario.check()
    scenario.pages[ROOT_LIST] = scenario.list_of(scenario.root, extension=partition)
    scenario.clock.seconds += 3601
    with pytest.raises(RevocationUnknownError, match="CN=authority is revoked is unknown"):
        scenario.check()


def test_second_url_is_used_if_the_first_one_fails(scenario: Scenario) -> None:
    scenario.check(scenario.issue([point(f"{BASE}missing.crl", SIGNER_LIST)]))
    scenario.check(scenario.issue([point(f"{BASE}missing.crl"), point(SIGNER_LIST)]))


@pytest.mark.parametrize(
    "points",
    [
        [],
        [point("http://evil.example/a.crl")],
        [point("https://www.microsoft.com/a.crl"), point("ldap://www.microsoft.com/a")],
        [point("http://169.254.169.254/metadata/identity")],
        [point(SIGNER_LIST, reasons=frozenset([x509.ReasonFlags.key_compromise]))],
        [point(f"{BASE}{i}.crl") for i in range(9)],
    ],
)
def test_only_two_urls_at_allowed_hosts_are_requested(
    scenario: Scenario, points: list[x509.DistributionPoint]
) -> None:
    with pytest.raises(RevocationUnknownError):
        scenario.check(scenario.issue(points))
    assert scenario.requested in ([], [f"{BASE}0.crl", f"{BASE}1.crl"])


def test_real_authorities_may_sign_lists_at_allowed_hosts() -> None:
    names = {each.issuer for each in intermediates()}
    for root in roots():
        if root.subject in names:
            assert revocation._may_sign_lists(root)
    for authority in intermediates():
        assert revocation._may_sign_lists(authority)
        assert revocation._urls(authority)
