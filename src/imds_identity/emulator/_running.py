"""What exists only between an emulator's start and stop: sockets, endpoints, files."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._addresses import url
from ._clock import SystemClock
from ._http.background import Background
from ._http.server import HttpServer
from ._pki.certificates import kept_authority, server_context
from ._pki.certificates import pem as pem_of
from ._pki.key_store import ATTESTED_CA, ATTESTED_ROOT, VAULT_CA
from ._profiles import profiles
from ._profiles.exports import shell_lines
from ._profiles.names import HostNames
from ._profiles.service import Routes, Service
from ._services.attested import AttestedEndpoint
from ._services.key_vault import KeyVaultEndpoint
from ._services.openid import OpenIdEndpoint
from ._state.key_files import KeyFiles
from ._state.recording import Recording

if TYPE_CHECKING:
    from ._settings import Settings
    from ._state.state import World


class KeyVault:
    """The Key Vault beside the emulated machine.

    Attributes:
        url: its https URL.
        ca_file: the root certificate that clients must trust for it, a PEM file.
        client_options: what Microsoft's clients must be told to believe the vault:
            ``SecretClient(vault.url, credential, **vault.client_options)``.
        secrets: names and values of its secrets; may be changed at any time.
    """

    def __init__(self, url: str, ca_file: Path, secrets: dict[str, str]) -> None:
        self.url = url
        self.client_options: dict[str, Any] = {
            "connection_verify": str(ca_file),
            # The vault's address is no subdomain of the resource that its challenge names.
            "verify_challenge_resource": False,
        }
        self.ca_file = str(ca_file)
        self.secrets = secrets

    def __repr__(self) -> str:
        return f"KeyVault({self.url!r})"


class Running:
    """A serving emulator.

    Args:
        settings: where it listens and what it serves.
        world: the shared state.

    Raises:
        OSError: if a port or a directory cannot be had.
    """

    def __init__(self, settings: Settings, world: World) -> None:
        self._settings = settings
        self._world = world
        self._background = Background()
        self._directory: Path | None = None
        self._process = os.getpid()
        self._names = HostNames(settings.allowed_hosts)
        self.endpoint = ""
        self.admin_url: str | None = None
        self.keys: KeyFiles | None = None
        self.key_vault: KeyVault | None = None
        self.attested: AttestedEndpoint | None = None
        self._recording: Recording | None = None
        try:
            if settings.record is not None:
                self._recording = Recording(settings.record)
                world.on_request(self._recording.add)
            self._assemble()
            self._background.start()
        except BaseException:
            self.stop()
            raise

    def directory(self) -> Path:
        """A private temporary directory, made when first asked for."""
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="imds-identity-"))
            self._remove_directory = weakref.finalize(
                self, _remove_tree, self._directory, self._process
            )
        return self._directory

    def attested_files(self) -> tuple[str, str] | None:
        """Root and intermediate of attested documents, PEM files; None for hosts without them."""
        if self.attested is None:
            return None
        with self._world.lock:
            signer = self.attested.signer
            root = self._certificate_file(ATTESTED_ROOT, signer.root_pem)
            return str(root), str(self._certificate_file(ATTESTED_CA, signer.intermediate_pem))

    def _certificate_file(self, name: str, data: bytes) -> Path:
        """Where a certificate lies for clients to read: with what is kept, if anything is."""
        kept = self._world.keys.directory
        path = (kept or self.directory()) / f"{name}.pem"
        if kept is None:
            path.write_bytes(data)
        return path

    def stop(self) -> None:
        """Free everything; in a forked child everything is still the parent's."""
        if os.getpid() != self._process:
            return
        self._background.stop()
        if self._recording is not None:
            self._world.log.listeners.remove(self._recording.add)
            self._recording.close()
        if self.keys is not None:
            self.keys.remove_all()
        if self._directory is not None:
            self._remove_directory()

    def _assemble(self) -> None:
        settings, world = self._settings, self._world
        listener = self._background.bind(settings.host, settings.port)
        self.endpoint = settings.url("http", listener.port)
        routes = self._machine_routes()
        openid = OpenIdEndpoint(world, self.endpoint)
        _add_openid(routes, openid)
        name = profiles.server_name(settings.profile)
        service = Service(world, routes, self._names)
        listener.serve(HttpServer(service.handle, world.clock, name=name))
        if settings.key_vault:
            self._add_key_vault(openid)
        if settings.admin_port is not None:
            self._add_admin(settings.admin_port)

    def _machine_routes(self) -> Routes:
        world, profile = self._world, self._settings.profile
        if profile == "app-service":
            return profiles.app_service_routes(world)
        if profile == "stack-hub":
            return profiles.stack_hub_routes(world)
        if profile == "arc":
            self.keys = self._key_files()
            older = self._settings.arc_agent == "older"
            return profiles.arc_routes(world, self.keys, ignores_selector=older)
        self.attested = AttestedEndpoint(world, self.endpoint)
        return profiles.vm_routes(world, self.attested)

    def _key_files(self) -> KeyFiles:
        given = self._settings.tokens_directory
        directory = self.directory() / "tokens" if given is None else Path(given)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Only a file that is really made shows that key files can be: no client has asked yet.
        tempfile.TemporaryFile(dir=directory).close()
        # Clients compare the realm's path with a resolved one, so it must hold no links.
        resolved = directory.resolve()
        return KeyFiles(resolved, self._settings.arc_secret_lifetime, self._world.clock)

    def _add_key_vault(self, openid: OpenIdEndpoint) -> None:
        settings, world = self._settings, self._world
        listener = self._background.bind(settings.host, settings.key_vault_port)
        url = settings.url("https", listener.port)
        routes = Routes()
        routes.add("/secrets", "key-vault", KeyVaultEndpoint(world, url), below=True)
        _add_openid(routes, openid)
        service = Service(world, routes, self._names)
        server = HttpServer(service.handle, world.clock, name=profiles.NAME)
        authority = kept_authority(world.keys, VAULT_CA, "imds-identity emulator root")
        tls = server_context(authority, self.directory(), settings.host, settings.allowed_hosts)
        listener.serve(server, tls)
        ca_file = self._certificate_file(VAULT_CA, pem_of(authority.certificate))
        self.key_vault = KeyVault(url, ca_file, world.secrets)

    def _add_admin(self, wanted: int) -> None:
        # Most emulators in tests have no page, and start sooner without it.
        from ._admin.api import Admin
        from ._admin.page import Place

        host = self._settings.admin_host
        listener = self._background.bind(host, wanted)
        self.admin_url = url("http", host, listener.port)
        vault = self.key_vault
        known = (vault.url, vault.ca_file) if vault is not None else None
        variables = profiles.environment(
            self._settings.profile, self.endpoint, self._world.identity_header
        )
        exports = "\n".join(shell_lines(variables, self.endpoint, known))
        place = Place(self.endpoint, exports, vault.url if vault is not None else "")
        admin = Admin(self._world, place, self._names)
        listener.serve(HttpServer(admin.handle, SystemClock(), name=profiles.NAME))


def _add_openid(routes: Routes, openid: OpenIdEndpoint) -> None:
    for path in openid.paths:
        routes.add(path, "openid", openid)


def _remove_tree(directory: Path, process: int) -> None:
    if os.getpid() == process:
        shutil.rmtree(directory, ignore_errors=True)
