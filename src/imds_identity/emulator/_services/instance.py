"""``/metadata/instance``: the machine's description, by path, as each api-version had it."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

from .._messages import json_response, text_response
from .rules import Complaint, metadata_error, request_complaint

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._messages import Request, Response
    from .._state.fault import Fault
    from .._state.state import World

    Document = dict[str, Any]
    Adapt = Callable[[Document], Document]

PATH = "/metadata/instance"
VERSIONS_PATH = "/metadata/versions"
INTRODUCED = "2017-03-01"
_EMPTY_ON_STACK_HUB = (
    "customData",
    "isHostCompatibilityLayerVm",
    "osProfile.disablePasswordAuthentication",
    "plan.name",
    "plan.product",
    "plan.publisher",
    "priority",
    "securityProfile.secureBootEnabled",
    "securityProfile.virtualTpmEnabled",
    "storageProfile.resourceDisk.size",
    "zone",
)
_EMPTY_ON_ARC = ("provider", "vmSize", "zone")

# Which api-version introduced a field of compute; those not listed came with the first.
_FIELDS_OF: dict[str, str] = {
    "2017-08-01": "placementGroupId resourceGroupName subscriptionId tags",
    "2017-12-01": "vmScaleSetName zone",
    "2018-04-02": "plan publicKeys",
    "2018-10-01": "azEnvironment provider",
    "2019-02-01": "customData",
    "2019-03-11": "resourceId",
    "2019-06-01": "storageProfile",
    "2019-06-04": "tagsList",
    "2020-06-01": "isHostCompatibilityLayerVm securityProfile",
    "2020-07-15": "osProfile",
    "2020-09-01": "licenseType",
    "2020-10-01": "osProfile.disablePasswordAuthentication",
    "2020-12-01": "evictionPolicy priority",
    "2021-01-01": "userData",
    "2021-02-01": "storageProfile.resourceDisk",
    "2021-03-01": "extendedLocation virtualMachineScaleSet",
    "2021-05-01": (
        "storageProfile.dataDisks.bytesPerSecondThrottle "
        "storageProfile.dataDisks.diskCapacityBytes "
        "storageProfile.dataDisks.isSharedDisk storageProfile.dataDisks.isUltraDisk "
        "storageProfile.dataDisks.opsPerSecondThrottle"
    ),
    "2021-10-01": "platformSubFaultDomain",
    "2021-11-01": "additionalCapabilities securityProfile.encryptionAtHost",
    "2021-11-15": "host hostGroup",
    "2021-12-13": "securityProfile.securityType",
    "2023-07-01": (
        "storageProfile.imageReference.communityGalleryImageId "
        "storageProfile.imageReference.sharedGalleryImageId "
        "storageProfile.imageReference.exactVersion"
    ),
    "2023-11-15": "physicalZone",
}
_INTRODUCED = {name: version for version, names in _FIELDS_OF.items() for name in names.split()}


class NoSuchElementError(LookupError):
    """The path leads nowhere in the document."""


def compute_at(compute: dict[str, Any], version: str, prefix: str = "") -> dict[str, Any]:
    """What an api-version shows of ``compute``.

    Args:
        compute: all that any version has.
        version: the api-version asked for.
        prefix: the path of ``compute`` within itself, for nested fields.
    """
    shown = {}
    for name, value in compute.items():
        path = prefix + name
        if _INTRODUCED.get(path, INTRODUCED) <= version:
            shown[name] = _value_at(value, version, path + ".")
    return shown


def _value_at(value: Any, version: str, prefix: str) -> Any:
    if isinstance(value, dict):
        return compute_at(value, version, prefix)
    if isinstance(value, list):
        return [_value_at(item, version, prefix) for item in value]
    return value


def element_at(document: Any, path: str) -> Any:
    """The element that a path leads to; names are case-sensitive, indices decimal.

    Raises:
        NoSuchElementError: if there is none.
    """
    for step in path.split("/"):
        if isinstance(document, dict) and step in document:
            document = document[step]
        elif isinstance(document, list) and step.isdecimal() and _has(document, step):
            document = document[int(step)]
        else:
            raise NoSuchElementError(step)
    return document


def _has(items: list[Any], step: str) -> bool:
    # int() raises for thousands of digits, and no list here is that long.
    return len(step) < 6 and int(step) < len(items)


def as_text(element: Any) -> str:
    """An element as ``format=text`` shows it: a leaf as it is, a branch as its names."""
    if isinstance(element, dict):
        return "\n".join(_child(name, element[name]) for name in sorted(element))
    if isinstance(element, list):
        return "\n".join(_child(str(index), value) for index, value in enumerate(element))
    return element if isinstance(element, str) else json.dumps(element)


def _child(name: str, value: Any) -> str:
    return name + "/" if isinstance(value, dict | list) else name


def as_on_a_vm(document: Document) -> Document:
    """The document as an Azure VM shows it."""
    return document


def as_on_stack_hub(document: Document) -> Document:
    """The document as Azure Stack Hub shows it: what it does not support is empty."""
    compute = document["compute"]
    for path in _EMPTY_ON_STACK_HUB:
        *parents, name = path.split(".")
        holder = functools.reduce(lambda inner, parent: inner.get(parent, {}), parents, compute)
        if name in holder:
            holder[name] = ""
    if "azEnvironment" in compute:
        compute["azEnvironment"] = "AzureStack"
    return document


def as_on_arc(document: Document) -> Document:
    """The document as Azure Arc's agent shows it, which knows little of the hardware."""
    compute = document["compute"]
    compute.update({name: "" for name in _EMPTY_ON_ARC if name in compute})
    if "storageProfile" in compute:
        compute["storageProfile"] = {}
    return {"compute": compute, "network": {}}


class InstanceEndpoint:
    """Answers for the document and every path in it.

    Args:
        world: the shared state.
        adapt: changes the document to what this kind of host shows.
    """

    def __init__(self, world: World, adapt: Adapt) -> None:
        self._world = world
        self._adapt = adapt

    def __call__(self, request: Request, fault: Fault | None) -> Response:
        """Answer a request for the document or a part of it."""
        del fault
        complaint = request_complaint(
            request, introduced=INTRODUCED, supported=self._world.versions
        )
        if complaint is not None:
            return metadata_error(complaint)
        form = request.parameter("format") or "json"
        if form not in ("json", "text"):
            return metadata_error(Complaint(400, "Bad request. format must be json or text"))
        document = self._document(request.parameter("api-version") or "")
        path = request.path[len(PATH) + 1 :]
        try:
            element = element_at(document, path) if path else document
        except NoSuchElementError:
            return metadata_error(Complaint(404, "Not found"))
        if form == "text":
            return text_response(200, as_text(element))
        if not isinstance(element, dict | list):
            message = "Bad request. A leaf is available with format=text only"
            return metadata_error(Complaint(400, message))
        return json_response(200, element)

    def _document(self, version: str) -> dict[str, Any]:
        machine = self._world.machine
        compute = compute_at(machine.full_compute(self._world.resource_id), version)
        return self._adapt({"compute": compute, "network": dict(machine.network)})


class VersionsEndpoint:
    """``/metadata/versions``: the api-versions that the region knows.

    Args:
        world: the shared state.
    """

    def __init__(self, world: World) -> None:
        self._world = world

    def __call__(self, request: Request, fault: Fault | None) -> Response:
        """Answer with the list."""
        del fault
        complaint = request_complaint(request, introduced=None, supported=self._world.versions)
        if complaint is not None:
            return metadata_error(complaint)
        return json_response(200, {"apiVersions": self._world.versions})
