"""What exists only between an emulator's start and stop: sockets, endpoints, files."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from ._admin.api import Admin
from ._clock import SystemClock
from ._hosts import profiles
from ._hosts.service import Routes, Service
from ._http.background import Background
from ._http.server import HttpServer
from ._pki.certificates import server_context
from ._services.attested import AttestedEndpoint
from ._services.key_vault import KeyVaultEndpoint
from ._services.openid import OpenIdEndpoint
from ._world.key_files import KeyFiles

if TYPE_CHECKING:
    from ._settings import Settings
    from ._world.world import World


class KeyVault:
    """The Key Vault beside the emulated machine.

    Attributes:
        url: its https URL.
        ca_file: the root certificate that clients must trust for it, a PEM file.
        secrets: names and values of its secrets; may be changed at any time.
    """

    def __init__(self, url: str, ca_file: Path, secrets: dict[str, str]) -> None:
        self.url = url
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
        self.endpoint = ""
        self.admin_url: str | None = None
        self.keys: KeyFiles | None = None
        self.key_vault: KeyVault | None = None
        self.attested: AttestedEndpoint | None = None
        try:
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

    def attested_root_file(self) -> str | None:
        """The root certificate of attested documents, a PEM file; None for hosts without them."""
        if self.attested is None:
            return None
        with self._world.lock:
            path = self.directory() / "attested-root.pem"
            path.write_bytes(self.attested.signer.root_pem)
            return str(path)

    def stop(self) -> None:
        """Free everything; in a forked child everything is still the parent's."""
        if os.getpid() != self._process:
            return
        self._background.stop()
        if self.keys is not None:
            self.keys.remove_all()
        if self._directory is not None:
            self._remove_directory()

    def _assemble(self) -> None:
        settings, world = self._settings, self._world
        listener = self._background.bind(settings.host, settings.port)
        self.endpoint = settings.url("http", listener.port)
        routes = self._machine_routes()
        openid = OpenIdEndpoint(world.machine.tenant_id, self.endpoint)
        _add_openid(routes, openid)
        name = profiles.server_name(settings.profile)
        listener.serve(HttpServer(Service(world, routes).handle, world.clock, name=name))
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
        server = HttpServer(Service(world, routes).handle, world.clock, name=profiles.NAME)
        listener.serve(server, server_context(self.directory(), settings.host))
        self.key_vault = KeyVault(url, self.directory() / "ca.pem", world.secrets)

    def _add_admin(self, wanted: int) -> None:
        listener = self._background.bind("127.0.0.1", wanted)
        self.admin_url = f"http://127.0.0.1:{listener.port}"
        admin = Admin(self._world, self._settings.profile, self.endpoint, listener.port)
        listener.serve(HttpServer(admin.handle, SystemClock(), name=profiles.NAME))


def _add_openid(routes: Routes, openid: OpenIdEndpoint) -> None:
    for path in openid.paths:
        routes.add(path, "openid", openid)


def _remove_tree(directory: Path, process: int) -> None:
    if os.getpid() == process:
        shutil.rmtree(directory, ignore_errors=True)
