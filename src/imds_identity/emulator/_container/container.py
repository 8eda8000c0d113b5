"""`EmulatorContainer`, on top of testcontainers, which it imports when it is used."""

from __future__ import annotations

import argparse
import json
import secrets
import tempfile
import time
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._cli.env_flags import flags_from_environment, variables_of
from .._cli.flag_parsing import emulator_arguments
from .._cli.options import add_flags
from .._pki.key_store import VAULT_CA
from .._profiles import profiles
from .._settings import WORKLOADS, Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Self

_PORT, _VAULT_PORT, _ADMIN_PORT = 16925, 16926, 16927
_START_SECONDS = 60.0
_POLL_SECONDS = 0.1
# Clients of these profiles read files, or compare a certificate, of the emulator's machine.
_UNSUPPORTED = ("arc", "service-fabric", *WORKLOADS)


class EmulatorContainer:
    """The emulator in a container, for tests of programs in any language.

        with EmulatorContainer(token_lifetime=60) as emulator:
            os.environ.update(emulator.environment())

    Args:
        profile: the kind of host to emulate; Arc, Service Fabric and workloads need `Emulator`.
        image: the image, built with the Dockerfile of this package.
        options: the flags of ``imds-identity emulator``, such as ``fault="status=429,times=2"``;
            the values of a repeatable flag can be in a list.

    Raises:
        ModuleNotFoundError: if testcontainers is not installed.
        TypeError: if there is no such option.
        ValueError: if an option is not valid.
    """

    def __init__(
        self, profile: str = "vm", *, image: str = "imds-emulator", **options: Any
    ) -> None:
        if profile in _UNSUPPORTED:
            raise ValueError(f"The profile {profile} needs files of its machine: use Emulator.")
        try:
            from testcontainers.core.container import DockerContainer
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "EmulatorContainer needs testcontainers: pip install testcontainers",
                name=error.name,
            ) from None
        own = {"profile": profile, "identity_header": secrets.token_hex(16)}
        variables = variables_of({**own, **options})
        self._settings = _settings(variables)
        self._files = tempfile.TemporaryDirectory(prefix="imds-identity-")
        self.container: Any = DockerContainer(image)
        self.container.with_exposed_ports(_PORT, _VAULT_PORT, _ADMIN_PORT).with_envs(**variables)

    def start(self) -> Self:
        """Start the container, and wait until the emulator serves.

        Returns:
            The container itself.

        Raises:
            TimeoutError: if it does not serve within a minute.
        """
        self.container.start()
        try:
            self._wait_until_healthy()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop and remove the container."""
        self.container.stop()
        self._files.cleanup()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def endpoint(self) -> str:
        """The URL of the token and metadata endpoint, without a path."""
        return self._url("http", _PORT)

    @property
    def admin_url(self) -> str:
        """The URL of the admin page and API."""
        return self._url("http", _ADMIN_PORT)

    @property
    def key_vault_url(self) -> str:
        """The https URL of the Key Vault; its root certificate is in `key_vault_ca_file`."""
        return self._url("https", _VAULT_PORT)

    @property
    def key_vault_ca_file(self) -> str:
        """The path of a copy of the Key Vault's root certificate, in PEM."""
        path = Path(self._files.name) / f"{VAULT_CA}.pem"
        if not path.exists():
            path.write_bytes(self.container.exec(["cat", f"/state/{VAULT_CA}.pem"]).output)
        return str(path)

    def environment(self) -> dict[str, str]:
        """Return the environment variables that direct clients on this machine to the emulator."""
        header = self._settings.identity_header or ""
        return profiles.environment(profiles.address(self._settings, header, self.endpoint))

    def api(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Send a request to the API: ``emulator.api("POST", "faults", {"status": 500})``.

        Args:
            method: ``GET``, ``POST``, ``PATCH`` or ``DELETE``.
            path: the path after ``/api/``.
            body: an object to send as JSON.

        Returns:
            The document of the response.

        Raises:
            ValueError: if the request is not valid, with the text of the error.
        """
        request = urllib.request.Request(  # noqa: S310 - the URL is http
            f"{self.admin_url}/api/{path}",
            None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json"},
            method=method,
        )
        try:
            with _open(request) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                raise ValueError(json.load(error)["error"]) from None

    def _url(self, scheme: str, port: int) -> str:
        host = self.container.get_container_host_ip()
        return f"{scheme}://{host}:{self.container.get_exposed_port(port)}"

    def _wait_until_healthy(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while error := self._health_error():
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"The emulator does not serve after {_START_SECONDS:.0f} s: {error}."
                )
            time.sleep(_POLL_SECONDS)

    def _health_error(self) -> str:
        try:
            with _open(f"{self.endpoint}/health"):
                return ""
        except (OSError, HTTPException) as error:
            return str(error) or type(error).__name__


def _open(request: urllib.request.Request | str) -> Any:
    # A proxy of the environment cannot reach the container.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return opener.open(request, timeout=10)


def _settings(variables: Mapping[str, str]) -> Settings:
    """Return what the emulator makes of its variables; ValueError if one is not valid."""
    parser = argparse.ArgumentParser()
    add_flags(parser)
    args = parser.parse_args([])
    for name, value in flags_from_environment(variables).items():
        setattr(args, name, value)
    arguments: dict[str, Any] = {**emulator_arguments(args)}
    return Settings(**arguments)
