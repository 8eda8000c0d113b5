"""The kind of host that this process runs on, known without the network."""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING

from .facts import Hosting, HostKind

if TYPE_CHECKING:
    from ..._platform.environment import Environment
    from ..._sources.firmware import Firmware

_PLATFORMS = {
    "AWS_LAMBDA_FUNCTION_NAME": "AWS Lambda", "ECS_CONTAINER_METADATA_URI_V4": "Amazon ECS",
    "FLY_APP_NAME": "Fly.io", "K_SERVICE": "Google Cloud Run",
}  # fmt: skip
_APPS = {
    "CONTAINER_APP_NAME": HostKind.CONTAINER_APPS,
    "CONTAINER_APP_JOB_NAME": HostKind.CONTAINER_APP_JOBS,
    "AZ_BATCH_POOL_ID": HostKind.BATCH,
}
_SYNAPSE = "Microsoft.ProjectArcadia"
_GITLAB_HOSTED = "saas-"  # in the tags and names of GitLab's own runners
_HOSTED_AGENTS = ("Azure Pipelines", "Hosted")
_INSTANCE_NAMES = ("SandboxHost-", "wk-caas-")  # the host names of Container Instances
_MICROSOFT = "Microsoft Corporation"
# Words in the firmware's manufacturer or chassis asset tag, as cloud-init recognizes clouds.
_CLOUDS = {
    "oraclecloud": "Oracle Cloud", "amazon ec2": "Amazon EC2", "google": "Google Cloud",
    "openstack": "OpenStack", "opentelekomcloud": "Open Telekom Cloud",
    "digitalocean": "DigitalOcean", "alibaba": "Alibaba Cloud", "hetzner": "Hetzner",
    "huaweicloud": "Huawei Cloud", "tencent": "Tencent Cloud", "scaleway": "Scaleway",
    "vultr": "Vultr", "linode": "Linode", "akamai": "Linode", "ovh": "OVHcloud",
}  # fmt: skip
_CMDLINE = "/proc/cmdline"
_FIRECRACKER = {"reboot=k", "pci=off"}  # Firecracker's default parameters of the kernel
_MAX_FILE_SIZE = 65536


def gather_hosting(environment: Environment, firmware: Firmware, system: str) -> Hosting:
    """Return the kind of host.

    Args:
        environment: its variables are the most specific, and are used first.
        firmware: the manufacturer of the machine.
        system: the operating system and its release.
    """
    return (
        _hosted_runner(environment)
        or _app_host(environment)
        or _container_host(environment, firmware)
        or _other_machine(environment, firmware, system)
        or Hosting()
    )


def _hosted_runner(environment: Environment) -> Hosting | None:
    if environment["GITHUB_ACTIONS"] and environment["RUNNER_ENVIRONMENT"] != "self-hosted":
        return Hosting(HostKind.GITHUB_RUNNER)
    is_named = environment["AGENT_NAME"].startswith(_HOSTED_AGENTS)
    if environment["TF_BUILD"] and (is_named or environment["AGENT_ISSELFHOSTED"] == "0"):
        return Hosting(HostKind.PIPELINES_AGENT)
    gitlab = environment["CI_RUNNER_TAGS"] + environment["CI_RUNNER_DESCRIPTION"]
    if environment["GITLAB_CI"] and _GITLAB_HOSTED in gitlab:
        return Hosting(HostKind.GITLAB_RUNNER)
    return Hosting(HostKind.CODESPACES) if environment["CODESPACES"] else None


def _app_host(environment: Environment) -> Hosting | None:
    for variable, kind in _APPS.items():
        if name := environment[variable]:
            return Hosting(kind, name)
    site, group = environment["WEBSITE_SITE_NAME"], environment["WEBSITE_RESOURCE_GROUP"]
    if environment["DATABRICKS_RUNTIME_VERSION"]:
        return Hosting(HostKind.DATABRICKS)
    if environment["AUTOMATION_ASSET_ACCOUNTID"]:
        return Hosting(HostKind.AUTOMATION)
    if environment["AZURE_SERVICE"] == _SYNAPSE:
        return Hosting(HostKind.SYNAPSE)
    is_functions = bool(environment["FUNCTIONS_WORKER_RUNTIME"])
    kind = HostKind.FUNCTIONS if is_functions else HostKind.APP_SERVICE
    return Hosting(kind, site, group) if site else None


def _container_host(environment: Environment, firmware: Firmware) -> Hosting | None:
    if socket.gethostname().startswith(_INSTANCE_NAMES):
        return Hosting(HostKind.CONTAINER_INSTANCES)
    if environment["KUBERNETES_SERVICE_HOST"] and firmware.is_azure is not False:
        return Hosting(HostKind.KUBERNETES)
    return None


def _other_machine(environment: Environment, firmware: Firmware, system: str) -> Hosting | None:
    if environment["WSL_DISTRO_NAME"] or ("microsoft" in system.lower() and os.name == "posix"):
        return Hosting(HostKind.WSL)
    for variable, platform in _PLATFORMS.items():
        if environment[variable] and not environment["KUBERNETES_SERVICE_HOST"]:
            return Hosting(HostKind.OTHER_PLATFORM, platform)
    return other_machine(firmware) or _microvm(firmware)


def other_machine(firmware: Firmware) -> Hosting | None:
    """Return the kind of a machine that is not an Azure VM according to its firmware."""
    words = f"{firmware.maker} {firmware.asset_tag}".lower()
    for word, cloud in _CLOUDS.items():
        if word in words:
            return Hosting(HostKind.OTHER_CLOUD, cloud)
    if firmware.is_azure is False:
        return Hosting(HostKind.NOT_AZURE, firmware.maker)
    # The manufacturer of any Hyper-V machine: without Azure's tag, this one is elsewhere.
    if firmware.maker == _MICROSOFT and firmware.asset_tag and not firmware.is_azure:
        return Hosting(HostKind.NOT_AZURE, f"{_MICROSOFT}, without Azure's chassis asset tag")
    return None


def _microvm(firmware: Firmware) -> Hosting | None:
    if firmware.maker or sys.platform != "linux":
        return None
    try:
        with open(_CMDLINE, encoding="latin-1") as file:
            parameters = set(file.read(_MAX_FILE_SIZE).split())
    except OSError:
        return None
    return Hosting(HostKind.NOT_AZURE, "Firecracker") if parameters >= _FIRECRACKER else None
