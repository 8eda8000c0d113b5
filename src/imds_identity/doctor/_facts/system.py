"""Where this process runs, and the file of a Kubernetes workload."""

from __future__ import annotations

import os
import platform
import re
from typing import TYPE_CHECKING

from ..._core.claims import claims_in
from ..._core.failure import sanitize
from .facts import System, Workload

if TYPE_CHECKING:
    from ..._platform.clock import Clock
    from ..._platform.environment import Environment

_PACKAGES = ("imds-identity", "azure-core", "azure-identity", "requests", "urllib3", "msal")
_MARKS = {".dockerenv": "Docker", os.path.join("run", ".containerenv"): "Podman"}
_GROUPS = re.compile(r"docker|kubepods|containerd|libpod|lxc")
_LARGEST = 65536


def system_of(clock: Clock, environment: Environment) -> System:
    """Where this process runs."""
    return System(
        clock.wall(),
        platform.python_version(),
        f"{platform.system()} {platform.release()}",
        _packages(),
        container_in(os.sep, environment),
    )


def container_in(root: str, environment: Environment) -> str:
    """What kind of container this is, empty where nothing tells of one.

    Args:
        root: of the file system.
        environment: the variables.
    """
    if environment["KUBERNETES_SERVICE_HOST"]:
        return "Kubernetes"
    for mark, kind in _MARKS.items():
        if os.path.exists(os.path.join(root, mark)):
            return kind
    try:
        with open(os.path.join(root, "proc", "1", "cgroup"), encoding="latin-1") as file:
            found = _GROUPS.search(file.read(_LARGEST))
    except OSError:
        return ""
    return found[0] if found else ""


def workload_in(path: str) -> Workload:
    """The workload's own token in the file ``path``, without the token."""
    try:
        with open(path, encoding="latin-1") as file:
            text = file.read(_LARGEST).strip()
    except (OSError, ValueError) as error:
        return Workload(path, problem=getattr(error, "strerror", None) or str(error))
    claims = claims_in(text)
    if not claims:
        return Workload(path, problem="it holds no token" if text else "it is empty")
    expires = claims.get("exp")
    return Workload(
        path,
        expires=float(expires) if isinstance(expires, int | float) else None,
        subject=sanitize(str(claims.get("sub", ""))),
        audience=sanitize(str(claims.get("aud", ""))),
    )


def _packages() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
