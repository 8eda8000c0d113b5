"""The system that this process runs on, and the token file of a Kubernetes workload."""

from __future__ import annotations

import os
import platform
import re
from contextlib import suppress
from typing import TYPE_CHECKING

from ..._core.claims import claims_in
from ..._core.failure import sanitize
from .facts import Pod, System, WorkloadToken

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..._platform.clock import Clock
    from ..._platform.environment import Environment

_PACKAGES = ("imds-identity", "azure-core", "azure-identity", "requests", "urllib3", "msal")
_MARKER_FILES = {".dockerenv": "Docker", os.path.join("run", ".containerenv"): "Podman"}
_CONTAINER_CGROUPS = re.compile(r"docker|kubepods|containerd|libpod|lxc")
_UNIT = re.compile(r"/system\.slice/(?:[^/\n]+/)*([^/\n]+\.service)$", re.MULTILINE)
_POD_TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token"  # noqa: S105 - a path
_ACCOUNT_PREFIX = "system:serviceaccount:"
_MAX_FILE_SIZE = 65536


def gather_system(clock: Clock, environment: Environment) -> System:
    """Return the facts about the system that this process runs on."""
    return System(
        clock.wall(),
        platform.python_version(),
        f"{platform.system()} {platform.release()}",
        _package_versions(),
        detect_container(os.sep, environment),
        systemd_unit(_read(os.path.join(os.sep, "proc", "self", "cgroup"))),
    )


def systemd_unit(control_groups: str) -> str:
    """Return the system service in ``/proc/self/cgroup``; empty if there is none."""
    found = _UNIT.search(control_groups)
    return found[1] if found else ""


def detect_container(root: str, environment: Environment) -> str:
    """Return the type of container that this file system root is in; empty if none is detected."""
    if environment["KUBERNETES_SERVICE_HOST"]:
        return "Kubernetes"
    for name, container in _MARKER_FILES.items():
        if os.path.exists(os.path.join(root, name)):
            return container
    found = _CONTAINER_CGROUPS.search(_read(os.path.join(root, "proc", "1", "cgroup")))
    return found[0] if found else ""


def _read(path: str) -> str:
    try:
        with open(path, encoding="latin-1") as file:
            return file.read(_MAX_FILE_SIZE)
    except (OSError, ValueError):
        return ""


def read_pod(*token_files: str) -> Pod:
    """Return the pod that the claims of the first readable token name, without keeping it."""
    claims = (claims_in(_read(path).strip()) for path in (*token_files, _POD_TOKEN) if path)
    return next((pod for each in claims if (pod := _pod_in(each)) != Pod()), Pod())


def _pod_in(claims: Mapping[str, object]) -> Pod:
    known = claims.get("kubernetes.io")
    pod = known.get("pod") if isinstance(known, dict) else None
    name = pod.get("name") if isinstance(pod, dict) else None
    namespace, _, account = str(claims.get("sub", "")).removeprefix(_ACCOUNT_PREFIX).partition(":")
    if not account:
        return Pod()
    return Pod(sanitize(str(name or "")), sanitize(namespace), sanitize(account))


def read_workload_token(path: str) -> WorkloadToken:
    """Read the federated token in the file ``path``, without keeping the token."""
    try:
        with open(path, encoding="latin-1") as file:
            text = file.read(_MAX_FILE_SIZE).strip()
    except (OSError, ValueError) as error:
        return WorkloadToken(
            path,
            getattr(error, "strerror", None) or str(error),
            is_missing=isinstance(error, FileNotFoundError),
            is_denied=isinstance(error, PermissionError),
            is_directory=isinstance(error, IsADirectoryError),
            token_file=_token_in(path),
        )
    claims = claims_in(text)
    if not claims:
        problem = "the file contains no token" if text else "the file is empty"
        return WorkloadToken(path, problem, is_empty=not text)
    expiry, audience = claims.get("exp"), claims.get("aud")
    first = audience[0] if isinstance(audience, list) and audience else audience
    return WorkloadToken(
        path,
        expiry=float(expiry) if isinstance(expiry, int | float) else None,
        subject=sanitize(str(claims.get("sub", ""))),
        issuer=sanitize(str(claims.get("iss", ""))),
        audience=sanitize(str(first or "")),
    )


def _token_in(directory: str) -> str:
    """Return the file in ``directory`` that contains a token, if there is one."""
    paths = (os.path.join(directory, name) for name in ("azure-identity-token", "token"))
    return next((path for path in paths if os.path.isfile(path)), "")


def _package_versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    versions = {}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions
