"""Issuers' certificates from where their subjects say that they are (RFC 5280, 4.2.2.1).

What a certificate says is believed only once it is verified, and this is asked before: so only
certain hosts are asked, over the plain http that they publish by, at public addresses, for little,
a few times. What comes back is believed no more than what the document itself brought.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID

from ..._platform.clock import SYSTEM_CLOCK
from .trust import UNREADABLE, certificates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..._platform.clock import Clock

Download: TypeAlias = "Callable[[str], bytes]"
"""Gives what is at a URL; raises `NotDownloaded`."""

MOST_HOPS = 4
LARGEST = 16 * 1024
_REMEMBERED_FAILURE = 300.0
_MOST_REMEMBERED = 64
_LOOK_UP_SECONDS = 5.0
_WIRE_SERVER = "168.63.129.16"
"""A public address at which every Azure VM has its host's own services."""
_NAT64 = bytes.fromhex("0064ff9b0000000000000000")
_UNICAST_IPV6 = 0b001
_HOSTS = ("microsoft.com", "digicert.com")


class NotDownloaded(Exception):
    """There is no certificate to be had from there."""


class Issuers:
    """Fetches issuers, and remembers for the process what it found and what it did not.

    Args:
        download: gives what is at a URL.
        clock: tells when a failure is old enough to try again.
    """

    def __init__(self, download: Download, clock: Clock = SYSTEM_CLOCK) -> None:
        self._download = download
        self._clock = clock
        self._known: dict[str, tuple[float, tuple[x509.Certificate, ...]]] = {}

    def trip(self) -> Callable[[x509.Certificate], Iterator[x509.Certificate]]:
        """What fetches for one verification, at most `MOST_HOPS` times."""
        left = MOST_HOPS

        def fetched(certificate: x509.Certificate) -> Iterator[x509.Certificate]:
            nonlocal left
            for url in places_of(certificate):
                if left <= 0:
                    return
                left -= 1
                yield from self._at(url)

        return fetched

    def _at(self, url: str) -> tuple[x509.Certificate, ...]:
        now = self._clock.now()
        until, found = self._known.get(url, (now, ()))
        if found or now < until:
            return found
        try:
            data = self._download(url)
            found = certificates(data) if len(data) <= LARGEST else ()
        except (NotDownloaded, ValueError):
            found = ()
        for oldest in list(self._known)[: 1 - _MOST_REMEMBERED]:
            self._known.pop(oldest, None)
        self._known[url] = (now + _REMEMBERED_FAILURE, found)
        return found


def places_of(certificate: x509.Certificate) -> list[str]:
    """Where ``certificate`` says its issuer's is, as far as that may be asked."""
    try:
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess)
    except (x509.ExtensionNotFound, *UNREADABLE):
        return []
    return [
        place.access_location.value
        for place in access.value
        if place.access_method == AuthorityInformationAccessOID.CA_ISSUERS
        and isinstance(place.access_location, x509.UniformResourceIdentifier)
        and may_be_asked(place.access_location.value)
    ]


def may_be_asked(url: str) -> bool:
    """Whether ``url`` is one of Microsoft's or DigiCert's, by plain http at the usual port."""
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
    return any(host == known or host.endswith(f".{known}") for known in _HOSTS)


def download(url: str) -> bytes:
    """What is at ``url``, asked for at an address of its host that was looked at before.

    Raises:
        NotDownloaded: if there is nothing to be had.
    """
    from urllib.parse import urlsplit

    from ..._core.failure import Failure
    from ..._http.exchange import TransportError
    from ..._http.messages import Request
    from ..._http.transport import direct_sender

    host = urlsplit(url).hostname or ""
    address = public_address(host)
    shown = f"[{address}]" if ":" in address else address
    # By address, or a name server could answer differently the second time.
    request = Request(url.replace(f"//{urlsplit(url).netloc}", f"//{shown}", 1), {"Host": host})
    try:
        with direct_sender(SYSTEM_CLOCK) as send:
            response = send(request)
    except (TransportError, Failure) as error:
        raise NotDownloaded(str(error)) from None
    if response.status != 200:
        raise NotDownloaded(f"the answer is {response.status}")
    return response.body


def public_address(host: str) -> str:
    """An address of ``host``, none of whose addresses is private.

    Raises:
        NotDownloaded: if there is none.
    """
    import socket

    from ..._http.bounded import call_with_timeout

    try:
        found = call_with_timeout(
            lambda: socket.getaddrinfo(host, 80, type=socket.SOCK_STREAM),
            _LOOK_UP_SECONDS,
            NotDownloaded(f"{host} was not resolved within {_LOOK_UP_SECONDS:.0f} s"),
        )
    except (OSError, UnicodeError) as error:
        raise NotDownloaded(str(error)) from None
    addresses = [str(each[4][0]) for each in found]
    if not addresses or not all(map(_is_public, addresses)):
        raise NotDownloaded(f"{host} has an address that is not public")
    return addresses[0]


def _is_public(written: str) -> bool:
    """Whether an address is one of the Internet's, and leads to no other address."""
    from ipaddress import IPv4Address, IPv6Address, ip_address

    address = ip_address(written)
    if isinstance(address, IPv6Address):
        if address.packed.startswith(_NAT64):
            address = IPv4Address(address.packed[len(_NAT64) :])
        else:
            address = address.ipv4_mapped or address.sixtofour or address
    if isinstance(address, IPv6Address):
        return address.is_global and address.packed[0] >> 5 == _UNICAST_IPV6
    return address.is_global and not address.is_multicast and str(address) != _WIRE_SERVER


ISSUERS = Issuers(download)
