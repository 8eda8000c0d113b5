"""Intermediates that are fetched from where certificates say they are."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from attested_support import AT, DocumentFactory, Holder
from imds_identity._http import transport as sender
from imds_identity.metadata._attestation import aia
from imds_identity.metadata._attestation.chain import Certificates, check_chain
from imds_identity.metadata.errors import MissingIntermediateError, UntrustedSignerError

if TYPE_CHECKING:
    from imds_identity._http.messages import Request, Response
    from support import FakeClock, ResponseFactory

BASE = "http://www.microsoft.com/pkiops/certs/"


class Web:
    """What is at which URL, and what was asked for."""

    def __init__(self) -> None:
        self.pages: dict[str, bytes] = {}
        self.asked: list[str] = []

    def __call__(self, url: str) -> bytes:
        self.asked.append(url)
        if url not in self.pages:
            raise aia.NotDownloaded("no such page")
        return self.pages[url]


def der(holder: Holder) -> bytes:
    return holder.certificate.public_bytes(Encoding.DER)


@pytest.fixture(scope="module")
def token_factory() -> DocumentFactory:
    return DocumentFactory()


@pytest.fixture
def web() -> Web:
    return Web()


def check(token_factory: DocumentFactory, signer: Holder, issuers: aia.Issuers) -> None:
    anchors = (token_factory.root.certificate,)
    check_chain(signer.certificate, AT, Certificates(anchors, (), issuers.trip()))


def test_a_missing_intermediate_is_fetched_once(
    token_factory: DocumentFactory, web: Web, clock: FakeClock
) -> None:
    issuers = aia.Issuers(web, clock)
    signer = token_factory.signer(places=[BASE + "ca.crt"])
    web.pages[BASE + "ca.crt"] = der(token_factory.authority)
    check(token_factory, signer, issuers)
    clock.seconds += 1e6
    check(token_factory, signer, issuers)
    assert web.asked == [BASE + "ca.crt"]


def test_a_failure_is_remembered_for_a_while(
    token_factory: DocumentFactory, web: Web, clock: FakeClock
) -> None:
    issuers = aia.Issuers(web, clock)
    signer = token_factory.signer(places=[BASE + "ca.crt"])
    for _ in range(2):
        with pytest.raises(MissingIntermediateError):
            check(token_factory, signer, issuers)
    assert len(web.asked) == 1
    web.pages[BASE + "ca.crt"] = der(token_factory.authority)
    clock.seconds += 301
    check(token_factory, signer, issuers)


@pytest.mark.parametrize("page", [b"", b"junk", b"\x30" * 17_000, b"-----BEGIN CERTIFICATE-----"])
def test_what_is_no_certificate_is_none(
    token_factory: DocumentFactory, web: Web, clock: FakeClock, page: Any
) -> None:
    web.pages[BASE + "ca.crt"] = page
    with pytest.raises(MissingIntermediateError):
        check(
            token_factory, token_factory.signer(places=[BASE + "ca.crt"]), aia.Issuers(web, clock)
        )


def test_what_is_larger_than_a_certificate_is_not_read(
    token_factory: DocumentFactory, web: Web, clock: FakeClock
) -> None:
    page = token_factory.authority.certificate.public_bytes(Encoding.PEM)
    for size, number in ((16 * 1024, 1), (16 * 1024 + 1, 0)):
        web.pages[f"{BASE}{size}"] = page.rjust(size, b"\n")
        found = aia.Issuers(web, clock).trip()(
            token_factory.signer(places=[f"{BASE}{size}"]).certificate
        )
        assert len(list(found)) == number


def test_a_fetched_certificate_is_no_anchor(
    token_factory: DocumentFactory, web: Web, clock: FakeClock
) -> None:
    stranger = DocumentFactory()
    web.pages[BASE + "ca.crt"] = der(stranger.authority)
    with pytest.raises(UntrustedSignerError, match="is not signed by CN=root"):
        check(token_factory, stranger.signer(places=[BASE + "ca.crt"]), aia.Issuers(web, clock))


def test_at_most_four_are_fetched(
    token_factory: DocumentFactory, web: Web, clock: FakeClock
) -> None:
    places = [f"{BASE}{i}.crt" for i in range(9)]
    with pytest.raises(MissingIntermediateError):
        check(token_factory, token_factory.signer(places=places), aia.Issuers(web, clock))
    assert web.asked == places[:4]


@pytest.mark.parametrize(
    ("url", "may"),
    [
        (BASE + "a.crt", True),
        ("http://caissuers.microsoft.com:80/a", True),
        ("http://cacerts.digicert.com/a", True),
        ("https://www.microsoft.com/a", False),
        ("http://www.microsoft.com:8080/a", False),
        ("http://www.microsoft.com.evil.example/a", False),
        ("http://evilmicrosoft.com/a", False),
        ("http://169.254.169.254/metadata", False),
        ("http://127.0.0.1/a", False),
        ("http://x@www.microsoft.com/a", False),
        ("http://www.microsoft.com@evil.example/a", False),
        ("http://www.microsoft.com:x/a", False),
        ("http://www.microsoft.com/a\r\nX: y", False),
        ("http://[::1/a", False),
        ("ldap://www.microsoft.com/a", False),
        ("", False),
    ],
)
def test_only_microsoft_and_digicert_are_asked(url: str, may: bool) -> None:
    assert aia.may_be_asked(url) is may


@pytest.mark.parametrize(
    "addresses",
    [
        *(["10.0.0.1"], ["127.0.0.1"], ["169.254.169.254"], ["::1"], ["20.1.2.3", "192.168.0.1"]),
        *(["168.63.129.16"], ["224.0.0.1"], ["ff0e::1"], ["fec0::1"], ["fe80::1%eth0"]),
        # IPv4 in IPv6: mapped, 6to4, by a gateway, and the older forms.
        *(["::ffff:10.0.0.1"], ["::ffff:168.63.129.16"], ["2002:a00:1::"], ["64:ff9b::a00:1"]),
        *(["::10.0.0.1"], ["64:ff9b:1::a00:1"], ["2001:0:a00:1::"], []),
    ],
)
def test_a_private_address_is_never_asked(
    monkeypatch: pytest.MonkeyPatch, addresses: list[str]
) -> None:
    found = [(0, 0, 0, "", (address, 80)) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(aia.NotDownloaded, match="not public"):
        aia.download(BASE + "a.crt")


@pytest.mark.parametrize("address", ["20.1.2.3", "2620:1ec:c11::200", "64:ff9b::1401:203"])
def test_a_public_address_is_asked_by_number(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    found = [(0, 0, 0, "", (address, 80))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    assert aia.public_address("www.microsoft.com") == address


@pytest.mark.parametrize(
    ("address", "url"),
    [("20.1.2.3", "http://20.1.2.3/a.crt"), ("2620:1ec::2", "http://[2620:1ec::2]/a.crt")],
)
def test_a_name_server_is_not_asked_a_second_time(
    monkeypatch: pytest.MonkeyPatch, responses: ResponseFactory, address: str, url: str
) -> None:
    asked: list[Request] = []
    planned = [responses.raw(200, b"der"), responses.raw(302)]

    def send(request: Request) -> Response:
        asked.append(request)
        return planned.pop(0)

    monkeypatch.setattr(aia, "public_address", lambda host: address)
    monkeypatch.setattr(sender, "direct_sender", lambda clock: contextlib.nullcontext(send))
    assert aia.download("http://www.microsoft.com/a.crt") == b"der"
    assert (asked[0].url, asked[0].headers) == (url, {"Host": "www.microsoft.com"})
    with pytest.raises(aia.NotDownloaded, match="the answer is 302"):
        aia.download("http://www.microsoft.com/a.crt")
    assert len(asked) == 2


def test_a_name_that_is_unknown_is_no_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror("unknown")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(aia.NotDownloaded, match="unknown"):
        aia.download(BASE + "a.crt")


def test_a_name_server_that_never_answers_is_waited_for_no_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    never = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: never.wait())
    monkeypatch.setattr(aia, "_LOOK_UP_SECONDS", 0.01)
    with pytest.raises(aia.NotDownloaded, match="not resolved within"):
        aia.public_address("www.microsoft.com")
    never.set()
