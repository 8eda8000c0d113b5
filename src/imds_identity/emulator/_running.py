"""A running emulator: the sockets, endpoints and files that exist from start to stop."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._addresses import url
from ._clock import SystemClock
from ._http.server import HttpServer
from ._http.server_thread import ServerThread
from ._pki.certificates import (
    Authority,
    accept_server_name,
    context_of,
    server_context,
    thumbprint,
)
from ._pki.certificates import pem as pem_of
from ._pki.key_store import ATTESTED_CA, ATTESTED_ROOT, VAULT_CA
from ._profiles import profiles
from ._profiles.allowed_hosts import AllowedHosts
from ._profiles.exports import client_variables, format_variables
from ._profiles.request_handler import RequestHandler, Routes
from ._services import container_registry, key_vault
from ._services.attested import AttestedEndpoint
from ._services.entra import (
    V2_TOKEN_PATH,
    OpenIdEndpoint,
    TokenExchangeEndpoint,
    federated_applications,
    workload_assertion,
)
from ._services.key_vault import KeyVaultEndpoint
from ._settings import WORKLOADS
from ._state.key_files import KeyFiles, share_with_group
from ._state.recording import Recording

if TYPE_CHECKING:
    import ssl
    from collections.abc import MutableMapping

    from ._settings import Settings
    from ._state.state import EmulatorState


class KeyVault:
    """The Key Vault of an emulator.

    Attributes:
        url: its https URL.
        ca_file: the path of the root certificate that clients must trust, in PEM.
        client_options: the keyword arguments with which Microsoft's clients accept the vault:
            ``SecretClient(vault.url, credential, **vault.client_options)``.
        secrets: the values of its secrets by name; they may be changed at any time, which
            creates a new version.
    """

    def __init__(self, url: str, ca_file: Path, secrets: MutableMapping[str, str]) -> None:
        self.url = url
        self.client_options: dict[str, Any] = {
            "connection_verify": str(ca_file),
            # The vault's host is not a subdomain of the resource in its challenge.
            "verify_challenge_resource": False,
        }
        self.ca_file: str = str(ca_file)
        self.secrets = secrets

    def __repr__(self) -> str:
        return f"KeyVault({self.url!r})"


class RunningEmulator:
    """An emulator that serves; OSError if a port or directory is not available."""

    def __init__(self, settings: Settings, state: EmulatorState) -> None:
        self._settings = settings
        self._state = state
        self._server_thread = ServerThread()
        self._directory: Path | None = None
        self._process = os.getpid()
        own_names = [profiles.BINDING_NAME] if settings.profile == "identity-binding" else []
        self._hosts = AllowedHosts([*settings.allowed_hosts, *own_names])
        self.endpoint = ""
        self.admin_url: str | None = None
        self.keys: KeyFiles | None = None
        self.key_vault: KeyVault | None = None
        self.attested: AttestedEndpoint | None = None
        self._recording: Recording | None = None
        self._thumbprint = ""
        self._root: Authority | None = None
        try:
            if settings.record is not None:
                self._recording = Recording(settings.record)
                state.on_request(self._recording.add)
            self._assemble()
            self._server_thread.start()
        except BaseException:
            self.stop()
            raise

    def environment(self) -> dict[str, str]:
        """Return the environment variables for clients."""
        if self._settings.profile in WORKLOADS:
            return profiles.workload_variables(self._settings, self.endpoint, self._kept())
        address = profiles.address(self._settings, self._state.identity_header, self.endpoint)
        variables = profiles.environment(address._replace(thumbprint=self._thumbprint))
        if self.key_vault is not None and self._settings.applications:
            variables.update(profiles.entra_variables(self.key_vault.url, self.key_vault.ca_file))
        return variables

    def directory(self) -> Path:
        """Return a private temporary directory, created at the first call."""
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="imds-identity-"))
            self._remove_directory = weakref.finalize(
                self, _remove_tree, self._directory, self._process
            )
        return self._directory

    def attested_files(self) -> tuple[str, str, str] | None:
        """Return PEM files for attested documents, if it has them: root, intermediate, both."""
        if self.attested is None:
            return None
        with self._state.lock:
            signer = self.attested.signer
            root = self._certificate_file(ATTESTED_ROOT, signer.root_pem)
            intermediate = self._certificate_file(ATTESTED_CA, signer.intermediate_pem)
            both = self.directory() / "attested.pem"
            both.write_bytes(signer.ca_pem)
            return str(root), str(intermediate), str(both)

    def _certificate_file(self, name: str, data: bytes) -> Path:
        """Return the path of a certificate; write it unless the state directory has it."""
        path = self._kept() / f"{name}.pem"
        if self._state.keys.directory is None:
            path.write_bytes(data)
        return path

    def _kept(self) -> Path:
        """Return the state directory, or else the temporary one."""
        return self._state.keys.directory or self.directory()

    def _authority(self) -> Authority:
        """Return the authority of all certificates for https."""
        if self._root is None:
            self._root = profiles.authority(self._state.keys)
            self._certificate_file(VAULT_CA, pem_of(self._root.certificate))
        return self._root

    def stop(self) -> None:
        """Free everything; in a forked child do nothing, because it all belongs to the parent."""
        if os.getpid() != self._process:
            return
        self._server_thread.stop()
        if self._recording is not None:
            self._state.log.listeners.remove(self._recording.add)
            self._recording.close()
        if self.keys is not None:
            self.keys.remove_all()
        if self._directory is not None:
            self._remove_directory()

    def _assemble(self) -> None:
        settings, state = self._settings, self._state
        state.identity_header = profiles.identity_header(settings, state.keys)
        listener = self._server_thread.bind(settings.host, settings.port)
        tls = self._certificate() if settings.profile in profiles.WITH_TLS else None
        self.endpoint = settings.url("http" if tls is None else "https", listener.port)
        routes = self._machine_routes()
        openid = OpenIdEndpoint(state, self.endpoint)
        _add_openid(routes, openid)
        server_header = profiles.server_header(settings.profile)
        handler = RequestHandler(state, routes, self._hosts)
        listener.serve(_http_server(handler, state, server_header), tls)
        if settings.key_vault:
            self._add_key_vault(openid)
        if settings.admin_port is not None:
            self._add_admin(settings.admin_port)

    def _machine_routes(self) -> Routes:
        state, profile = self._state, self._settings.profile
        if profile in WORKLOADS:
            issuer = f"{self.endpoint}/cluster/"
            token_file = self._kept() / profiles.WORKLOAD_TOKEN_FILE
            token_file.touch(mode=0o600)
            token_file.write_text(workload_assertion(state, issuer))
            return profiles.workload_routes(state, issuer)
        routes = profiles.app_routes(state)
        if routes is not None:
            return routes
        if profile == "stack-hub":
            return profiles.stack_hub_routes(state)
        if profile == "arc":
            self.keys = self._key_files()
            older = self._settings.arc_agent == "older"
            return profiles.arc_routes(state, self.keys, ignores_selector=older)
        self.attested = AttestedEndpoint(state, self.endpoint)
        return profiles.vm_routes(state, self.attested)

    def _key_files(self) -> KeyFiles:
        option, group = self._settings.tokens_directory, self._settings.tokens_group_id()
        directory = self.directory() / "tokens" if option is None else Path(option)
        is_new = not directory.exists()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if is_new:
            share_with_group(directory, 0o750, group)
        if option is None:
            share_with_group(self.directory(), 0o710, group)
        # Create a file now, so that a directory without write access is an error at the start.
        tempfile.TemporaryFile(dir=directory).close()
        # Clients compare the realm's path with a resolved one, so it must not contain links.
        resolved = directory.resolve()
        lifetime = self._settings.arc_secret_lifetime
        return KeyFiles(resolved, lifetime, self._state.clock, group)

    def _certificate(self) -> ssl.SSLContext:
        key, certificate = profiles.certificate(self._settings, self._state.keys, self._authority())
        self._thumbprint = thumbprint(certificate)
        context = context_of(key, certificate, self.directory())
        if self._settings.profile == "identity-binding":
            accept_server_name(context, profiles.BINDING_NAME)
        return context

    def _add_key_vault(self, openid: OpenIdEndpoint) -> None:
        settings, state = self._settings, self._state
        listener = self._server_thread.bind(settings.host, settings.key_vault_port)
        url = settings.url("https", listener.port)
        routes = Routes()
        vault = KeyVaultEndpoint(state, url)
        for path in (key_vault.PATH, key_vault.DELETED_PATH):
            routes.add(path, "key-vault", vault, prefix=True)
        exchange = container_registry.ExchangeEndpoint(state)
        routes.add(container_registry.PATH, "registry", exchange)
        applications = settings.trusting_applications()
        if applications:
            clients = federated_applications(state, applications)
            routes.add_suffix(V2_TOKEN_PATH, "entra", TokenExchangeEndpoint(state, clients))
        _add_openid(routes, openid)
        handler = RequestHandler(state, routes, self._hosts)
        server = _http_server(handler, state, profiles.SERVER_NAME)
        authority = self._authority()
        tls = server_context(authority, self.directory(), settings.host, settings.allowed_hosts)
        listener.serve(server, tls)
        self.key_vault = KeyVault(url, self._kept() / f"{VAULT_CA}.pem", state.secrets)

    def _add_admin(self, port: int) -> None:
        # Most emulators in tests have no page and start faster without these imports.
        from ._admin.api import AdminHandler
        from ._admin.page import PageContext

        host = self._settings.admin_host
        listener = self._server_thread.bind(host, port)
        self.admin_url = url("http", host, listener.port)
        vault = self.key_vault
        vault_location = (vault.url, vault.ca_file) if vault is not None else None
        variables = client_variables(self.environment(), self.endpoint, vault_location)
        exports = "\n".join(format_variables(variables))
        context = PageContext(self.endpoint, exports, vault.url if vault is not None else "")
        admin = AdminHandler(self._state, context, self._hosts)
        listener.serve(HttpServer(admin.handle, SystemClock(), name=profiles.SERVER_NAME))


def _http_server(handler: RequestHandler, state: EmulatorState, name: str) -> HttpServer:
    return HttpServer(handler.handle, state.clock, name=name, on_rejected=handler.log_rejected)


def _add_openid(routes: Routes, openid: OpenIdEndpoint) -> None:
    for path in openid.paths:
        routes.add(path, "openid", openid)


def _remove_tree(directory: Path, process: int) -> None:
    if os.getpid() == process:
        shutil.rmtree(directory, ignore_errors=True)
