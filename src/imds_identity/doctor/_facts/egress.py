"""Connections to services on the internet, directly or through the proxy: TLS, and no request."""

from __future__ import annotations

import queue
import ssl
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..._core.failure import sanitize
from ..._core.source import ARC
from ..._http.connection import kind_of
from ..._http.exchange import ErrorKind
from ..._platform.threads import start_thread
from ...metadata.clouds import PUBLIC, US_GOVERNMENT, cloud_of_authority
from .facts import EgressProbe
from .network import proxy_for, proxy_headers
from .tls import ERRORS, connect_tls

if TYPE_CHECKING:
    from ..._platform.clock import Clock
    from ..._platform.environment import Environment
    from ..._sources.host import TokenSource

_SECONDS = 3.0
_PORT = 443
# https://learn.microsoft.com/azure/azure-arc/servers/network-requirements
_AGENT_HOSTS = {
    PUBLIC.name: ("gbl.his.arc.azure.com", "agentserviceapi.guestconfiguration.azure.com"),
    US_GOVERNMENT.name: ("gbl.his.arc.azure.us", "agentserviceapi.guestconfiguration.azure.us"),
}


class EgressProbes:
    """Probes in the background; `results` waits for them, for a limited time.

    Args:
        hosts: the names of the servers.
        environment: its variables may name a proxy and trusted certificates.
        clock: measures the time.
        port: the port of all servers.
    """

    def __init__(
        self, hosts: tuple[str, ...], environment: Environment, clock: Clock, port: int = _PORT
    ) -> None:
        self._hosts, self._clock = hosts, clock
        self._end = clock.now() + _SECONDS
        self._done: queue.SimpleQueue[EgressProbe] = queue.SimpleQueue()
        for host in hosts:
            start_thread(partial(self._probe, host, port, environment))

    def _probe(self, host: str, port: int, environment: Environment) -> None:
        self._done.put(probe_host(host, port, environment))

    def results(self) -> tuple[EgressProbe, ...]:
        """Return one result for each host."""
        late = f"no connection within {_SECONDS:g} s"
        found = {host: EgressProbe(host, late, ErrorKind.TIMEOUT) for host in self._hosts}
        for _ in self._hosts:
            try:
                probe = self._done.get(timeout=max(self._end - self._clock.now(), 0.01))
            except queue.Empty:
                break
            found[probe.host] = probe
        return tuple(found.values())


def hosts_for(source: TokenSource, environment: Environment) -> tuple[str, ...]:
    """Return the servers that tokens of this source depend on, in the environment's cloud."""
    cloud = cloud_of_authority(environment["AZURE_AUTHORITY_HOST"]) or PUBLIC
    names = [urlsplit(url).netloc for url in (cloud.authority, cloud.resource_manager)]
    return (*names, *(_AGENT_HOSTS.get(cloud.name, ()) if source.name == ARC else ()))


def probe_host(host: str, port: int, environment: Environment) -> EgressProbe:
    """Connect to ``host`` with TLS."""
    proxy = proxy_for(environment, f"https://{host}")
    variable = proxy.variable if proxy else ""
    try:
        context = ssl.create_default_context(cafile=environment["REQUESTS_CA_BUNDLE"] or None)
        headers = proxy_headers(environment[variable]) if proxy else None
        connect_tls(host, port, proxy, context, _SECONDS, headers).close()
    except ssl.SSLCertVerificationError as error:
        text = f"its TLS certificate is not trusted: {error.verify_message}"
        return EgressProbe(host, sanitize(text), ErrorKind.OTHER, variable)
    except ERRORS as error:
        text = getattr(error, "strerror", None) or str(error)
        return EgressProbe(host, sanitize(text) or type(error).__name__, kind_of(error), variable)
    return EgressProbe(host, proxy=variable)
