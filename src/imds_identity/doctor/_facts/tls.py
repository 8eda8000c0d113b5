"""The issuer of a server's certificate that is not trusted, which is often a proxy's."""

from __future__ import annotations

import http.client
import ssl
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..._core.failure import Failure, Reason, sanitize
from .facts import Tls
from .network import proxy_for
from .service_probe import host_and_port

if TYPE_CHECKING:
    from ..._platform.environment import Environment
    from ..._sources.host import TokenSource
    from .network import Proxy

_SECONDS = 1.0
_DEFAULT_PORT = 443
ERRORS = (OSError, ValueError, http.client.HTTPException)
"""The exceptions of a connection that fails."""


def gather_tls(source: TokenSource, environment: Environment, failure: Failure) -> Tls:
    """Return why the certificate of ``source`` is not trusted, if it has one."""
    if not source.endpoint.startswith("https"):
        return Tls()
    issuer = _issuer(source, environment) if failure.reason is Reason.TLS else ""
    return Tls(issuer, _bundle_problem(environment["REQUESTS_CA_BUNDLE"]))


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


def _issuer(source: TokenSource, environment: Environment) -> str:
    """Return the issuer, from a handshake without verification, in which nothing is sent."""
    host, port = host_and_port(source)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    proxy = proxy_for(environment, source.endpoint)
    try:
        connection = connect_tls(host, port, proxy, context, _SECONDS)
        try:
            return _issuer_in(connection.sock.getpeercert(binary_form=True) or b"")
        finally:
            connection.close()
    except ERRORS:
        return ""


def _issuer_in(certificate: bytes) -> str:
    try:
        from cryptography import x509
    except ImportError:
        return ""
    return sanitize(x509.load_der_x509_certificate(certificate).issuer.rfc4514_string(), 200)


def _bundle_problem(path: str) -> str:
    if not path:
        return ""
    try:
        ssl.create_default_context(cafile=path)
    except (OSError, ValueError) as error:
        return sanitize(getattr(error, "strerror", None) or str(error))
    return ""
