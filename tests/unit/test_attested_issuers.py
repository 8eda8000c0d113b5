"""Downloads of intermediates from the URLs in certificates."""

from __future__ import annotations

import contextlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from attested_support import (
    AT,
    CertifiedKey,
    DocumentFactory,
    content,
    issue_certificate,
    signed_data,
)
from imds_identity._http import transport
from imds_identity.metadata import verify_attested_document
from imds_identity.metadata._attestation import issuers, revocation
from imds_identity.metadata._attestation.chain import TrustMaterial, check_chain
from imds_identity.metadata.errors import MissingIntermediateError, UntrustedSignerError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from imds_identity._http.messages import Request, Response
    from support import FakeClock, ResponseFactory

BASE = "http://www.microsoft.com/pkiops/certs/"


class FakeWeb:
    """Content by URL, and a list of requested URLs."""

    def __init__(self) -> None:
        self.pages: dict[str, bytes] = {}
        self.requested: list[str] = []

    def __call__(self, url: str) -> bytes:
        self.requested.append(url)
        if url not in self.pages:
            raise issuers.DownloadFailed("no such page")
        return self.pages[url]


def der(certified: CertifiedKey) -> bytes:
    return certified.certificate.public_bytes(Encoding.DER)


@pytest.fixture(scope="module")
def document_factory() -> DocumentFactory:
    return DocumentFactory()


@pytest.fixture
def web() -> FakeWeb:
    return FakeWeb()


def check(
    document_factory: DocumentFactory, signer: CertifiedKey, cache: issuers.IssuerCache
) -> None:
    anchors = (document_factory.root.certificate,)
    material = TrustMaterial(anchors, (), cache.fetcher())
    cache.keep(check_chain(signer.certificate, "metadata.azure.com", AT, material))


def test_a_missing_intermediate_is_downloaded_once(
    document_factory: DocumentFactory, web: FakeWeb, clock: FakeClock
) -> None:
    cache = issuers.IssuerCache(web, clock)
    signer = document_factory.signer(issuer_urls=[BASE + "ca.crt"])
    web.pages[BASE + "ca.crt"] = der(document_factory.authority)
    check(document_factory, signer, cache)
    clock.seconds += 1e6
    check(document_factory, signer, cache)
    assert web.requested == [BASE + "ca.crt"]


@pytest.mark.parametrize("offline", [False, True])
def test_nothing_is_downloaded_offline(
    document_factory: DocumentFactory, web: FakeWeb, clock: FakeClock, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, offline: bool,
) -> None:  # fmt: skip
    cache = issuers.IssuerCache(web, clock)
    monkeypatch.setattr(issuers, "issuer_cache", lambda _: cache)
    signer = document_factory.signer(issuer_urls=[BASE + "ca.crt"])
    text = signed_data(signer, content(), [signer])
    root = document_factory.write(tmp_path / "root.pem", document_factory.root)
    with pytest.raises(MissingIntermediateError):
        verify_attested_document(text, nonce="42", at=AT, ca_file=root, offline=offline)
    assert web.requested == ([] if offline else [BASE + "ca.crt"])


def test_a_failed_download_is_cached_for_five_minutes(
    document_factory: DocumentFactory, web: FakeWeb, clock: FakeClock
) -> None:
    cache = issuers.IssuerCache(web, clock)
    signer = document_factory.signer(issuer_urls=[BASE + "ca.crt"])
    for _ in range(2):
        with pytest.raises(MissingIntermediateError):
            check(document_factory, signer, cache)
    assert len(web.requested) == 1
    web.pages[BASE + "ca.crt"] = der(document_factory.authority)
    clock.seconds += 301
    check(document_factory, signer, cache)


def test_wrong_certificate_is_forgotten_after_five_minutes(
    document_factory: DocumentFactory, web: FakeWeb, clock: FakeClock
) -> None:
    cache = issuers.IssuerCache(web, clock)
    signer = document_factory.signer(issuer_urls=[BASE + "ca.crt"])
    for wrong in (issue_certificate("someone else"), DocumentFactory().authority):
        web.pages[BASE + "ca.crt"] = der(wrong)
        with pytest.raises(UntrustedSignerError):
            check(document_factory, signer, cache)
        clock.seconds += 301
    web.pages[BASE + "ca.crt"] = der(document_factory.authority)
    check(document_factory, signer, cache)
    # One for another signer does not replace it.
    web.pages[BASE + "ca.crt"] = der(issue_certificate("someone else"))
    with pytest.raises(UntrustedSignerError):
        check(document_factory, DocumentFactory().signer(issuer_urls=[BASE + "ca.crt"]), cache)
    clock.seconds += 1e6
    check(document_factory, signer, cache)


def test_renewed_issuer_is_downloaded_again(
    document_factory: DocumentFactory, web: FakeWeb, clock: FakeClock
) -> None:
    cache = issuers.IssuerCache(web, clock)
    web.pages[BASE + "ca.crt"] = der(document_factory.authority)
    check(document_factory, document_factory.signer(issuer_urls=[BASE + "ca.crt"]), cache)
    renewed = document_factory.root.issue("authority", ca=True, usage="certificates")
    web.pages[BASE + "ca.crt"] = der(renewed)
    clock.seconds += 301
    name = "metadata.azure.com"
    check(document_factory, renewed.issue(name, names=[name], issuer_urls=[BASE + "ca.crt"]), cache)


def test_many_documents_do_not_displace_a_verified_issuer(
    document_factory: DocumentFactory, web: FakeWeb, clock: FakeClock
) -> None:
    cache = issuers.IssuerCache(web, clock)
    signer = document_factory.signer(issuer_urls=[BASE + "ca.crt"])
    web.pages[BASE + "ca.crt"] = der(document_factory.authority)
    check(document_factory, signer, cache)
    for i in range(100):
        cache._fetch(f"{BASE}{i}")
    assert len(cache._recent) == 64
    web.pages.clear()
    check(document_factory, signer, cache)


@pytest.mark.parametrize("page", [b"", b"junk", b"\x30" * 17_000, b"-----BEGIN CERTIFICATE-----"])
def test_anything_but_a_certificate_is_ignored(
    document_factory: DocumentFactory, web: FakeWeb, clock: FakeClock, page: Any
) -> None:
    web.pages[BASE + "ca.crt"] = page
    with pytest.raises(MissingIntermediateError):
        check(
            document_factory,
            document_factory.signer(issuer_urls=[BASE + "ca.crt"]),
            issuers.IssuerCache(web, clock),
        )


def test_an_oversized_download_is_ignored(
    document_factory: DocumentFactory, web: FakeWeb, clock: FakeClock
) -> None:
    page = document_factory.authority.certificate.public_bytes(Encoding.PEM)
    for size, number in ((16 * 1024, 1), (16 * 1024 + 1, 0)):
        web.pages[f"{BASE}{size}"] = page.rjust(size, b"\n")
        found = issuers.IssuerCache(web, clock).fetcher()(
            document_factory.signer(issuer_urls=[f"{BASE}{size}"]).certificate
        )
        assert len(list(found)) == number


def test_a_downloaded_certificate_is_not_an_anchor(
    document_factory: DocumentFactory, web: FakeWeb, clock: FakeClock
) -> None:
    other = DocumentFactory()
    web.pages[BASE + "ca.crt"] = der(other.authority)
    with pytest.raises(UntrustedSignerError, match="is not signed by CN=root"):
        check(
            document_factory,
            other.signer(issuer_urls=[BASE + "ca.crt"]),
            issuers.IssuerCache(web, clock),
        )


def test_at_most_four_urls_are_requested(
    document_factory: DocumentFactory, web: FakeWeb, clock: FakeClock
) -> None:
    urls = [f"{BASE}{i}.crt" for i in range(9)]
    with pytest.raises(MissingIntermediateError):
        check(
            document_factory,
            document_factory.signer(issuer_urls=urls),
            issuers.IssuerCache(web, clock),
        )
    assert web.requested == urls[:4]


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        (BASE + "a.crt", True),
        ("http://caissuers.microsoft.com:80/a", True),
        ("http://cacerts.digicert.com/a", True),
        ("http://cacerts.digicert.cn/DigiCertBasicRSACNCAG2.crt", True),
        ("http://cacerts.digicert.cn.example.com/a", False),
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
        ("http://[::1%25.microsoft.com]/a", False),
        ("http://evil%2ecom%23.microsoft.com/a", False),
        ("http://a_b.microsoft.com/a", False),
        ("ldap://www.microsoft.com/a", False),
        ("", False),
    ],
)
def test_only_hosts_of_microsoft_and_digicert_are_allowed(url: str, allowed: bool) -> None:
    assert issuers.is_allowed_url(url) is allowed


@pytest.mark.parametrize(
    "addresses",
    [
        *(["10.0.0.1"], ["127.0.0.1"], ["169.254.169.254"], ["::1"], ["20.1.2.3", "192.168.0.1"]),
        *(["168.63.129.16"], ["224.0.0.1"], ["ff0e::1"], ["fec0::1"], ["fe80::1%eth0"]),
        # IPv4 in IPv6: mapped, 6to4, NAT64, and older forms.
        *(["::ffff:10.0.0.1"], ["::ffff:168.63.129.16"], ["2002:a00:1::"], ["64:ff9b::a00:1"]),
        *(["::10.0.0.1"], ["64:ff9b:1::a00:1"], ["2001:0:a00:1::"], []),
    ],
)
def test_a_private_address_is_refused(
    monkeypatch: pytest.MonkeyPatch, addresses: list[str]
) -> None:
    found = [(0, 0, 0, "", (address, 80)) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(issuers.DownloadFailed, match="not public"):
        issuers.download(BASE + "a.crt")


@pytest.mark.parametrize("address", ["20.1.2.3", "2620:1ec:c11::200", "64:ff9b::1401:203"])
def test_a_public_address_is_returned(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    found = [(0, 0, 0, "", (address, 80))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    assert issuers.public_address("www.microsoft.com") == address


@pytest.mark.parametrize(
    ("address", "url"),
    [("20.1.2.3", "http://20.1.2.3/a.crt"), ("2620:1ec::2", "http://[2620:1ec::2]/a.crt")],
)
def test_the_name_is_resolved_only_once(
    monkeypatch: pytest.MonkeyPatch, responses: ResponseFactory, address: str, url: str
) -> None:
    sent: list[Request] = []
    planned = [responses.raw(200, b"der"), responses.raw(302)]

    def send(request: Request) -> Response:
        sent.append(request)
        return planned.pop(0)

    monkeypatch.setattr(issuers, "public_address", lambda host: address)
    monkeypatch.setattr(transport, "direct_sender", lambda clock: contextlib.nullcontext(send))
    assert issuers.download("http://www.microsoft.com/a.crt") == b"der"
    assert (sent[0].url, sent[0].headers) == (url, {"Host": "www.microsoft.com"})
    assert sent[0].max_body == 16 * 1024
    with pytest.raises(issuers.DownloadFailed, match="HTTP 302"):
        issuers.download("http://www.microsoft.com/a.crt")
    assert len(sent) == 2


def test_downloads_use_the_given_proxy(document_factory: DocumentFactory, tmp_path: Path) -> None:
    url = BASE + "authority.crt"
    signer = document_factory.signer(issuer_urls=[url])
    document = document_factory.document(signer)
    root = document_factory.write(tmp_path / "root.pem", document_factory.root)
    authority = der(document_factory.authority)
    seen: list[tuple[str, str | None, str | None]] = []

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            login = self.headers["Proxy-Authorization"]
            seen.append((self.path, self.headers["Host"], login))
            self.send_response(200)
            self.send_header("Content-Length", str(len(authority)))
            self.end_headers()
            self.wfile.write(authority)

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Proxy) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        proxy = f"http://user:p%40ss@127.0.0.1:{server.server_port}"
        verified = verify_attested_document(document, nonce="42", at=AT, ca_file=root, proxy=proxy)
        server.shutdown()
        thread.join()
    assert verified.nonce == "42"
    assert seen == [(url, "www.microsoft.com", "Basic dXNlcjpwQHNz")]


@pytest.mark.parametrize(
    "proxy",
    [
        *("", "proxy:3128", "https://user:secret@proxy", "http://", "http://user:secret@"),
        *("http://user:secret@proxy:0", "http://user:secret@a b", "http://user:secret@proxy:x", 3),
    ],
)
def test_proxy_must_be_an_http_url_and_its_password_is_not_shown(proxy: Any) -> None:
    with pytest.raises(ValueError, match="proxy must be the URL") as caught:
        issuers.validated_proxy(proxy)
    assert "secret" not in str(caught.value)


@given(st.text(max_size=30) | st.from_regex(r"http://[^ ]{0,20}", fullmatch=True))
def test_any_text_is_a_proxy_or_refused(text: str) -> None:
    try:
        proxy = issuers.validated_proxy(text)
    except ValueError:
        return
    assert proxy == text
    assert issuers._proxy_request(BASE + "a.crt", text).url == BASE + "a.crt"


def test_an_unknown_host_is_a_failed_download(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror("unknown")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(issuers.DownloadFailed, match="unknown"):
        issuers.download(BASE + "a.crt")


def test_a_slow_name_server_times_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    never = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: never.wait())
    monkeypatch.setattr(issuers, "_RESOLVE_SECONDS", 0.01)
    with pytest.raises(issuers.DownloadFailed, match="not resolved within"):
        issuers.public_address("www.microsoft.com")
    never.set()


@pytest.mark.parametrize("cache_of", [issuers.issuer_cache, revocation.revocation_cache])
def test_caches_are_kept_for_a_few_proxies_only(cache_of: Callable[[str], object]) -> None:
    first = cache_of("http://user:0@proxy:1")
    assert cache_of("http://user:0@proxy:1") is first
    for number in range(20):
        cache_of(f"http://user:{number + 1}@proxy:1")
    assert all(len(module._caches) <= issuers.MAX_PROXIES for module in (issuers, revocation))
