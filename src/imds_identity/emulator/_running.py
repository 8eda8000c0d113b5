"""What exists only between an emulator's start and stop: sockets, endpoints, files."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from ._clock import SystemClock
from ._http.background import Background
from ._http.certificates import server_context
from ._http.server import HttpServer
from ._services.app_service import PATH as APP_SERVICE_PATH
from ._services.app_service import AppServiceTokenEndpoint
from ._services.arc import ArcTokenEndpoint, KeyFiles
from ._services.attested import INTERMEDIATE_PATH, ROOT_PATH, AttestedEndpoint
from ._services.attested import PATH as ATTESTED_PATH
from ._services.instance import PATH as INSTANCE_PATH
from ._services.instance import VERSIONS_PATH, InstanceEndpoint, VersionsEndpoint
from ._services.key_vault import KeyVaultEndpoint
from ._services.load_balancer import PATH as BALANCER_PATH
from ._services.load_balancer import LoadBalancerEndpoint
from ._services.openid import OpenIdEndpoint
from ._services.routes import Routes
from ._services.scheduled_events import PATH as EVENTS_PATH
from ._services.scheduled_events import EventsEndpoint
from ._services.service import Service
from ._services.token import (
    FORM_TOKEN_PATH,
    INFO_PATH,
    TOKEN_PATH,
    FormTokenEndpoint,
    InfoEndpoint,
    TokenEndpoint,
)
from ._world.tokens import signing_key

if TYPE_CHECKING:
    from ._admin.api import Admin
    from ._settings import Settings
    from ._world.world import World

_NAME = "imds-identity emulator"


class KeyVault:
    """The Key Vault beside the emulated machine.

    Attributes:
        url: Its https URL.
        ca_file: The root certificate that clients must trust for it.
        secrets: Names and values of its secrets; may be changed at any time.
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
        settings: Where it listens and what it serves.
        world: The shared state.
        secrets: The Key Vault's secrets, which may change while it serves.
        admin: Answers on the admin port.
    """

    def __init__(
        self, settings: Settings, world: World, secrets: dict[str, str], admin: Admin
    ) -> None:
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
            self._assemble(secrets, admin)
            self._background.start()
        except BaseException:
            self.stop()
            raise

    def directory(self) -> Path:
        """Returns a private temporary directory, made when first asked for."""
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="imds-identity-"))
            self._remove_directory = weakref.finalize(
                self, _remove_tree, self._directory, self._process
            )
        return self._directory

    def stop(self) -> None:
        """Frees everything; in a forked child everything is still the parent's."""
        if os.getpid() != self._process:
            return
        self._background.stop()
        if self.keys is not None:
            self.keys.remove_all()
        if self._directory is not None:
            self._remove_directory()

    def _assemble(self, secrets: dict[str, str], admin: Admin) -> None:
        settings, world = self._settings, self._world
        openid = OpenIdEndpoint(world.machine.tenant_id, signing_key(), lambda: self.endpoint)
        routes = self._machine_routes()
        _add_openid(routes, openid)
        name = "himds" if settings.profile == "arc" else f"IMDS/0 ({_NAME})"
        server = HttpServer(Service(world, routes).handle, world.clock, name=name)
        port = self._background.listen(server, settings.host, settings.port)
        self.endpoint = settings.url("http", port)
        if settings.key_vault:
            self._add_key_vault(secrets, openid)
        if settings.admin_port is not None:
            self._add_admin(admin, settings.admin_port)

    def _machine_routes(self) -> Routes:
        routes, world, profile = Routes(), self._world, self._settings.profile
        if profile == "app-service":
            endpoint = AppServiceTokenEndpoint(world, self._settings.secret_header)
            routes.add(APP_SERVICE_PATH, "identity", endpoint)
            return routes
        instance = InstanceEndpoint(world, stack_hub=profile == "stack-hub")
        routes.add(INSTANCE_PATH, "instance", instance, below=True)
        routes.add(VERSIONS_PATH, "versions", VersionsEndpoint(world))
        if profile == "arc":
            self.keys = self._key_files()
            older = self._settings.arc_agent == "older"
            arc = ArcTokenEndpoint(world, self.keys, ignores_selector=older)
            routes.add(TOKEN_PATH, "identity", arc)
        elif profile == "vm":
            self._add_vm(routes)
        return routes

    def _add_vm(self, routes: Routes) -> None:
        world = self._world
        self.attested = AttestedEndpoint(world, lambda: self.endpoint)
        routes.add(TOKEN_PATH, "identity", TokenEndpoint(world))
        routes.add(FORM_TOKEN_PATH, "identity", FormTokenEndpoint(world))
        routes.add(INFO_PATH, "identity", InfoEndpoint(world))
        routes.add(ATTESTED_PATH, "attested", self.attested)
        routes.add(INTERMEDIATE_PATH, "attested", self.attested.serve_intermediate)
        routes.add(ROOT_PATH, "attested", self.attested.serve_root)
        routes.add(BALANCER_PATH, "loadbalancer", LoadBalancerEndpoint(world))
        routes.add(EVENTS_PATH, "scheduledevents", EventsEndpoint(world))

    def _key_files(self) -> KeyFiles:
        given = self._settings.tokens_directory
        directory = self.directory() / "tokens" if given is None else Path(given)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The realm must name the file as a client that resolves links sees it.
        resolved = directory.resolve()
        return KeyFiles(resolved, self._settings.arc_secret_lifetime, self._world.clock)

    def _add_key_vault(self, secrets: dict[str, str], openid: OpenIdEndpoint) -> None:
        settings, world = self._settings, self._world
        vault = KeyVault("", self.directory() / "ca.pem", secrets)
        routes = Routes()
        endpoint = KeyVaultEndpoint(world, secrets, lambda: vault.url)
        routes.add("/secrets", "key-vault", endpoint, below=True)
        _add_openid(routes, openid)
        server = HttpServer(Service(world, routes).handle, world.clock, name=_NAME)
        context = server_context(self.directory(), settings.host)
        port = self._background.listen(server, settings.host, settings.key_vault_port, context)
        vault.url = settings.url("https", port)
        self.key_vault = vault

    def _add_admin(self, admin: Admin, wanted: int) -> None:
        server = HttpServer(admin.handle, SystemClock(), name=_NAME)
        port = self._background.listen(server, "127.0.0.1", wanted)
        admin.listens_on(port)
        self.admin_url = f"http://127.0.0.1:{port}"


def _add_openid(routes: Routes, openid: OpenIdEndpoint) -> None:
    for path in openid.paths:
        routes.add(path, "openid", openid)


def _remove_tree(directory: Path, process: int) -> None:
    if os.getpid() == process:
        shutil.rmtree(directory, ignore_errors=True)
