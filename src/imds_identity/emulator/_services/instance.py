"""``/metadata/instance``, the machine's document by api-version; its load balancer; versions."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

from .._messages import json_response, text_response
from .request_checks import ApiError, StateEndpoint, check_request

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._messages import Request, Response
    from .._state.fault import Fault
    from .._state.state import EmulatorState

    Document = dict[str, Any]
    DocumentView = Callable[[Document], Document]

PATH = "/metadata/instance"
LOAD_BALANCER_PATH = "/metadata/loadbalancer"
VERSIONS_PATH = "/metadata/versions"
INTRODUCED = "2017-03-01"
_LOAD_BALANCER_INTRODUCED = "2020-10-01"
_NO_LOAD_BALANCER = (
    "No load balancer metadata is found. Please check if your VM is using any non-basic SKU load "
    "balancer and retry later."
)
_EMPTY_ON_STACK_HUB = (
    "customData", "isHostCompatibilityLayerVm", "osProfile.disablePasswordAuthentication",
    "plan.name", "plan.product", "plan.publisher", "priority",
    "securityProfile.secureBootEnabled", "securityProfile.virtualTpmEnabled",
    "storageProfile.resourceDisk.size", "zone",
)  # fmt: skip
_EMPTY_ON_ARC = ("offer", "provider", "publisher", "sku", "vmSize", "zone")
_KERNEL_VERSION = "6.8.0-87-generic"

# The fields of compute by the api-version that introduced them; the first version had the others.
_NEW_FIELDS: dict[str, str] = {
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
    # First seen with these versions; no document states which one introduced them.
    "2025-11-11": "interconnectGroupId interconnectSubgroupId isVmInStandbyPool systemFaultDomain",
}
_INTRODUCED = {name: version for version, names in _NEW_FIELDS.items() for name in names.split()}


class NoSuchElementError(LookupError):
    """The document has no element with this path."""


def compute_for_version(compute: Document, version: str, prefix: str = "") -> Document:
    """Return the fields of ``compute``, or below ``prefix`` in it, that an api-version has."""
    fields = {}
    for name, value in compute.items():
        path = prefix + name
        if _INTRODUCED.get(path, INTRODUCED) <= version:
            fields[name] = _value_for_version(value, version, path + ".")
    return fields


def _value_for_version(value: Any, version: str, prefix: str) -> Any:
    if isinstance(value, dict):
        return compute_for_version(value, version, prefix)
    if isinstance(value, list):
        return [_value_for_version(item, version, prefix) for item in value]
    return value


def element_at(document: object, path: str) -> object:
    """Return the element with a path; NoSuchElementError if there is none.

    Names are case-sensitive, indices decimal.
    """
    for step in path.split("/"):
        if isinstance(document, dict) and step in document:
            document = document[step]
        elif isinstance(document, list) and step.isdecimal() and _has(document, step):
            document = document[int(step)]
        else:
            raise NoSuchElementError(step)
    return document


def _has(items: list[object], step: str) -> bool:
    # int() raises an error for thousands of digits.
    return len(step) < 6 and int(step) < len(items)


def format_text(element: object) -> str:
    """Return an element in ``format=text``: the value of a leaf, or the names in a branch."""
    if isinstance(element, dict):
        return "\n".join(_child(name, element[name]) for name in sorted(element))
    if isinstance(element, list):
        return "\n".join(_child(str(index), value) for index, value in enumerate(element))
    return element if isinstance(element, str) else json.dumps(element)


def _child(name: str, value: object) -> str:
    return name + "/" if isinstance(value, dict | list) else name


def vm_view(document: Document) -> Document:
    """Return the document as an Azure VM has it."""
    return document


def stack_hub_view(document: Document) -> Document:
    """Return the document as Azure Stack Hub has it: fields that it does not support are empty."""
    compute = document["compute"]
    for path in _EMPTY_ON_STACK_HUB:
        *parents, name = path.split(".")
        parent = functools.reduce(lambda inner, key: inner.get(key, {}), parents, compute)
        if name in parent:
            parent[name] = ""
    if "azEnvironment" in compute:
        compute["azEnvironment"] = "AzureStack"
    return document


def arc_view(document: Document) -> Document:
    """Return the document as Azure Arc's agent has it, with little about the hardware."""
    compute = document["compute"]
    compute.update({name: "" for name in _EMPTY_ON_ARC if name in compute})
    compute.update(osType=compute["osType"].lower(), version=_KERNEL_VERSION)
    if "publicKeys" in compute:
        compute["publicKeys"] = None
    if "storageProfile" in compute:
        compute["storageProfile"] = {}
    if "securityProfile" in compute:
        compute["securityProfile"]["secureBootEnabled"] = ""
    return {"compute": compute, "network": {}}


class InstanceEndpoint:
    """Returns the document or an element of it, in the view of the kind of host."""

    def __init__(self, state: EmulatorState, view: DocumentView) -> None:
        self._state = state
        self._view = view

    def __call__(self, request: Request, fault: Fault | None) -> Response:
        check_request(
            request, introduced=INTRODUCED, supported=self._state.versions, json_only=False
        )
        form = request.parameter("format") or "json"
        if form not in ("json", "text"):
            raise ApiError(400, "Bad request. format must be json or text")
        document = self._document(request.parameter("api-version") or "")
        is_partial = fault is not None and document.pop(fault.missing_part, None) is not None
        if is_partial and request.parameter("extended") == "true":
            raise ApiError(500, "Internal server error. The document is not complete")
        path = request.path[len(PATH) + 1 :]
        try:
            element = element_at(document, path) if path else document
        except NoSuchElementError:
            raise ApiError(404, "Not found") from None
        if form == "text":
            return text_response(200, format_text(element))
        if not isinstance(element, dict | list):
            raise ApiError(400, "Bad request. A leaf is available with format=text only")
        return json_response(200, element)

    def _document(self, version: str) -> Document:
        machine = self._state.machine
        compute = compute_for_version(machine.full_compute(self._state.resource_id), version)
        return self._view({"compute": compute, "network": dict(machine.network)})


class VersionsEndpoint(StateEndpoint):
    """``/metadata/versions``: the supported api-versions."""

    def __call__(self, request: Request, _fault: Fault | None) -> Response:
        check_request(request, introduced=None, supported=self._state.versions, json_only=False)
        return json_response(200, {"apiVersions": self._state.versions})


class LoadBalancerEndpoint(StateEndpoint):
    """``/metadata/loadbalancer``: the load balancer of the machine."""

    def __call__(self, request: Request, _fault: Fault | None) -> Response:
        supported = self._state.versions
        check_request(request, introduced=_LOAD_BALANCER_INTRODUCED, supported=supported)
        balancer = self._state.machine.load_balancer
        if not balancer:
            raise ApiError(404, _NO_LOAD_BALANCER)
        return json_response(200, {"loadbalancer": balancer})
