"""The issuer of a server's certificate that is not trusted, which is often a proxy's."""

from __future__ import annotations

import http.client
import ssl
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..._core.failure import Failure, Reason, sanitize
from .facts import CertificateFault, Tls
from .network import proxy_for
from .service_probe import host_and_port

if TYPE_CHECKING:
    from ..._platform.environment import Environment
    from ..._sources.host import TokenSource
    from .network import Proxy

_SECONDS = 1.0
_DEFAULT_PORT = 443
# OpenSSL's X509_V_ERR_ codes.
_FAULTS = {
    9: CertificateFault.NOT_YET_VALID, 10: CertificateFault.EXPIRED,
    62: CertificateFault.OTHER_NAME, 64: CertificateFault.OTHER_NAME,
}  # fmt: skip
ERRORS = (OSError, ValueError, http.client.HTTPException)
"""The exceptions of a connection that fails."""


def gather_tls(source: TokenSource, environment: Environment, failure: Failure) -> Tls:
    """Return why the certificate of ``source`` is not trusted, if it has one."""
    if not source.endpoint.startswith("https"):
        return Tls()
    problem = _bundle_problem(environment["REQUESTS_CA_BUNDLE"])
    if failure.reason is not Reason.TLS or problem:
        return Tls(bundle_problem=problem)
    issuer, expiry = _issuer_and_expiry(_unverified_certificate(source, environment))
    return Tls(issuer, _fault(source, environment), expiry)


def connect_tls(
    host: str,
    port: int,
    proxy: Proxy | None,
    context: ssl.SSLContext,
    seconds: float,
    headers: dict[str, str] | None = None,
) -> http.client.HTTPSConnection:
    """Return a connection to ``host``, on which nothing was sent; raise one of `ERRORS`.

    ``headers`` are for the proxy.
    """
    server = urlsplit(f"//{proxy.server}") if proxy else None
    address = (server.hostname or "", server.port or _DEFAULT_PORT) if server else (host, port)
    connection = http.client.HTTPSConnection(*address, timeout=seconds, context=context)
    if server:
        connection.set_tunnel(host, port, headers)
    try:
        connection.connect()
    except BaseException:
        connection.close()
        raise
    return connection


def _fault(source: TokenSource, environment: Environment) -> CertificateFault:
    """Return what a handshake with verification finds, in which nothing is sent."""
    context = ssl.create_default_context(cafile=environment["REQUESTS_CA_BUNDLE"] or None)
    proxy = proxy_for(environment, source.endpoint)
    try:
        connect_tls(*host_and_port(source), proxy, context, _SECONDS).close()
    except ssl.SSLCertVerificationError as error:
        return _FAULTS.get(error.verify_code, CertificateFault.UNTRUSTED)
    except ERRORS:
        pass
    return CertificateFault.UNTRUSTED


def _unverified_certificate(source: TokenSource, environment: Environment) -> bytes:
    """Return the server's certificate, from a handshake in which nothing is sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    proxy = proxy_for(environment, source.endpoint)
    try:
        connection = connect_tls(*host_and_port(source), proxy, context, _SECONDS)
        try:
            return connection.sock.getpeercert(binary_form=True) or b""
        finally:
            connection.close()
    except ERRORS:
        return b""


def _issuer_and_expiry(certificate: bytes) -> tuple[str, float | None]:
    try:
        from cryptography import x509
    except ImportError:
        return "", None
    if not certificate:
        return "", None
    known = x509.load_der_x509_certificate(certificate)
    return sanitize(known.issuer.rfc4514_string(), 200), known.not_valid_after_utc.timestamp()


def _bundle_problem(path: str) -> str:
    if not path:
        return ""
    try:
        ssl.create_default_context(cafile=path)
    except (OSError, ValueError) as error:
        return sanitize(getattr(error, "strerror", None) or str(error))
    return ""
