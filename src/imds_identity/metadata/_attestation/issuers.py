"""Downloads of issuers' certificates from the URLs in certificates (RFC 5280, section 4.2.2.1).

The URLs come from certificates that are not verified yet. So only certain hosts are allowed, over
plain http, at public addresses, with limits on the number and size of downloads. With a proxy, the
proxy resolves the name, and decides about the address. A downloaded
certificate is trusted no more than one in the document, and kept for long only if it is part of a
verified chain.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID

from ..._platform.clock import SYSTEM_CLOCK
from ..clouds import is_dns_name
from .trust import CERTIFICATE_ERRORS, certificates_from

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ..._http.messages import Request
    from ..._platform.clock import Clock

C = TypeVar("C")
T = TypeVar("T")
Download: TypeAlias = "Callable[[str], bytes]"  # from a URL to its content, or DownloadFailed

MAX_DOWNLOADS = 4
MAX_BYTES = 16 * 1024
_RECENT_SECONDS = 300.0
_MAX_CACHED = 64
MAX_PROXIES = 4
_RESOLVE_SECONDS = 5.0
_WIRE_SERVER = "168.63.129.16"  # a public address, of the host of every Azure VM
_NAT64 = bytes.fromhex("0064ff9b0000000000000000")
_UNICAST_IPV6 = 0b001
_ALLOWED_DOMAINS = ("microsoft.com", "digicert.com", "digicert.cn")


class DownloadFailed(Exception):
    """The URL did not return a certificate."""


class IssuerCache:
    """Downloads issuers; keeps those of verified chains, and the others for five minutes.

    Plain http does not prevent others on the network path from replacing a download.
    """

    def __init__(self, download: Download, clock: Clock = SYSTEM_CLOCK) -> None:
        self._download = download
        self._clock = clock
        self._recent: dict[str, tuple[float, tuple[x509.Certificate, ...]]] = {}
        self._verified: dict[str, tuple[x509.Certificate, ...]] = {}

    def fetcher(self) -> Callable[[x509.Certificate], Iterator[x509.Certificate]]:
        """Return a function that yields issuers: at most `MAX_DOWNLOADS` for one verification."""
        left = MAX_DOWNLOADS

        def fetch(certificate: x509.Certificate) -> Iterator[x509.Certificate]:
            nonlocal left
            for url in issuer_urls(certificate):
                yield from self._verified.get(url, ())
                if left <= 0:
                    return
                left -= 1
                yield from self._fetch(url)

        return fetch

    def keep(self, chain: Iterable[x509.Certificate]) -> None:
        """Keep those downloaded certificates that are in a verified chain."""
        verified = tuple(chain)
        for url, (_, found) in list(self._recent.items()):
            if kept := tuple(each for each in found if each in verified):
                add_bounded(self._verified, url, kept)

    def _fetch(self, url: str) -> tuple[x509.Certificate, ...]:
        now = self._clock.now()
        until, found = self._recent.get(url, (now, ()))
        if now < until:
            return found
        found = ()
        with suppress(DownloadFailed, ValueError):
            data = self._download(url)
            found = certificates_from(data) if len(data) <= MAX_BYTES else ()
        add_bounded(self._recent, url, (now + _RECENT_SECONDS, found))
        return found


def add_bounded(cached: dict[str, T], url: str, value: T, max_size: int = _MAX_CACHED) -> None:
    """Add an entry, in place of the oldest one if there are too many."""
    for oldest in list(cached)[: 1 - max_size]:
        cached.pop(oldest, None)
    cached[url] = value


def issuer_urls(certificate: x509.Certificate) -> list[str]:
    """Return the allowed URLs of the issuer's certificate."""
    try:
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess)
    except (x509.ExtensionNotFound, *CERTIFICATE_ERRORS):
        return []
    return [
        each.access_location.value
        for each in access.value
        if each.access_method == AuthorityInformationAccessOID.CA_ISSUERS
        and isinstance(each.access_location, x509.UniformResourceIdentifier)
        and is_allowed_url(each.access_location.value)
    ]


def is_allowed_url(url: str) -> bool:
    """Return whether ``url`` is plain http on port 80 at a host of Microsoft or DigiCert."""
    from urllib.parse import urlsplit

    if not url.isascii() or not url.isprintable() or " " in url:
        return False
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        return False
    if parts.scheme != "http" or port not in (None, 80) or "@" in parts.netloc:
        return False
    return is_dns_name(host) and any(is_in_domain(host, domain) for domain in _ALLOWED_DOMAINS)


def is_in_domain(host: str, domain: str) -> bool:
    """Return whether a host name is ``domain`` or one of its subdomains."""
    return host == domain or host.endswith(f".{domain}")


def download(url: str, max_bytes: int = MAX_BYTES, proxy: str | None = None) -> bytes:
    """Return the content of ``url`` from an address that was checked first, or raise."""
    from ..._core.failure import Failure
    from ..._http.exchange import TransportError
    from ..._http.transport import direct_sender

    request = _direct_request(url) if proxy is None else _proxy_request(url, proxy)
    request.max_body = max_bytes
    try:
        with direct_sender(SYSTEM_CLOCK) as send:
            response = send(request)
    except (TransportError, Failure) as error:
        raise DownloadFailed(str(error)) from None
    if response.status != 200:
        raise DownloadFailed(f"HTTP {response.status}")
    return response.body


def _direct_request(url: str) -> Request:
    """Return a request to an address of the host, if it is public."""
    from urllib.parse import urlsplit

    from ..._http.messages import Request

    host = urlsplit(url).hostname or ""
    address = public_address(host)
    netloc = f"[{address}]" if ":" in address else address
    # By address: a name server could return another address the second time.
    return Request(url.replace(f"//{urlsplit(url).netloc}", f"//{netloc}", 1), {"Host": host})


def _proxy_request(url: str, proxy: str) -> Request:
    from base64 import b64encode
    from urllib.parse import unquote, urlsplit

    from ..._core.secret import Secret
    from ..._http.messages import Request

    login, at, host = urlsplit(proxy).netloc.rpartition("@")
    encoded = b64encode(unquote(login).encode()).decode()
    request = Request(url, {"Proxy-Authorization": Secret(encoded, "Basic ")} if at else {})
    request.proxy = f"http://{host}"
    return request


def validated_proxy(proxy: str | None) -> str | None:
    """Return ``proxy`` if it is the URL of an http proxy, or None. The error omits a password."""
    from urllib.parse import urlsplit

    if proxy is None:
        return None
    try:
        is_text = proxy.isascii() and proxy.isprintable() and " " not in proxy
        parts = urlsplit(proxy if is_text else "")
        is_valid = parts.scheme == "http" and parts.hostname and parts.port != 0
    except (AttributeError, ValueError):
        is_valid = False
    if not is_valid:
        raise ValueError("proxy must be the URL of an http proxy, such as http://proxy:3128")
    return proxy


def public_address(host: str) -> str:
    """Return an address of ``host``, or raise unless all its addresses are public."""
    import socket

    from ..._http.connection import call_with_timeout

    try:
        found = call_with_timeout(
            lambda: socket.getaddrinfo(host, 80, type=socket.SOCK_STREAM),
            _RESOLVE_SECONDS,
            DownloadFailed(f"{host} was not resolved within {_RESOLVE_SECONDS:.0f} s"),
        )
    except (OSError, UnicodeError) as error:
        raise DownloadFailed(str(error)) from None
    addresses = [str(each[4][0]) for each in found]
    if not addresses or not all(map(_is_public, addresses)):
        raise DownloadFailed(f"{host} has an address that is not public")
    return addresses[0]


def _is_public(text: str) -> bool:
    """Return whether an address, or the IPv4 address in it, is public."""
    from ipaddress import IPv4Address, IPv6Address, ip_address

    address = ip_address(text)
    if isinstance(address, IPv6Address):
        if address.packed.startswith(_NAT64):
            address = IPv4Address(address.packed[len(_NAT64) :])
        else:
            address = address.ipv4_mapped or address.sixtofour or address
    if isinstance(address, IPv6Address):
        return address.is_global and address.packed[0] >> 5 == _UNICAST_IPV6
    return address.is_global and not address.is_multicast and str(address) != _WIRE_SERVER


def issuer_cache(proxy: str | None) -> IssuerCache:
    """Return the cache of this process for downloads through ``proxy``."""
    return cache_for(proxy, _caches, lambda: IssuerCache(partial(download, proxy=proxy)))


def cache_for(proxy: str | None, caches: dict[str | None, C], create: Callable[[], C]) -> C:
    """Return the cache for ``proxy``; few are kept, because a URL may contain a new password."""
    if proxy not in caches:
        for oldest in list(caches)[: 1 - MAX_PROXIES]:
            caches.pop(oldest, None)
    return caches.setdefault(proxy, create())


_caches: dict[str | None, IssuerCache] = {}
