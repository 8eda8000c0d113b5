"""Instance metadata, attested documents, and scheduled events of this machine.

Names are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._attestation.document import (
        AttestedDocument,
        read_attested_document_without_verifying,
        verify_attested_document,
    )
    from ._events.events import Change, EventsDocument, ScheduledEvent
    from ._events.watcher import Watcher
    from ._models.compute import Compute, StorageProfile
    from ._models.instance import Instance, Network
    from ._models.load_balancer import LoadBalancer, public_ips
    from ._models.parsing import parse_instance
    from ._requests.detection import detect
    from .client import MetadataClient
    from .clouds import CLOUDS, Cloud, cloud_named, stack_hub_cloud
    from .errors import (
        AttestedDocumentError,
        CertificateExpiredError,
        DocumentExpiredError,
        MalformedDocumentError,
        MalformedMetadataError,
        MetadataError,
        MetadataNotFoundError,
        MetadataRefusedError,
        MetadataUnavailableError,
        MissingIntermediateError,
        NotYetValidError,
        SignerNotFoundError,
        UnknownRootError,
        UnsupportedOnHostError,
        UnsupportedVersionError,
        UntrustedSignerError,
        WrongCloudError,
        WrongNonceError,
        WrongSignatureError,
        WrongSignerError,
    )

_NAMES_OF_MODULES = {
    "client": ("MetadataClient",),
    "_attestation.document": (
        "AttestedDocument",
        "read_attested_document_without_verifying",
        "verify_attested_document",
    ),
    "clouds": ("CLOUDS", "Cloud", "cloud_named", "stack_hub_cloud"),
    "_models.parsing": ("parse_instance",),
    "_models.instance": ("Instance", "Network"),
    "_models.load_balancer": ("LoadBalancer", "public_ips"),
    "_models.compute": ("Compute", "StorageProfile"),
    "_requests.detection": ("detect",),
    "_events.events": ("Change", "EventsDocument", "ScheduledEvent"),
    "_events.watcher": ("Watcher",),
}
_MODULES = {name: module for module, names in _NAMES_OF_MODULES.items() for name in names}

__all__ = [
    "CLOUDS",
    "AttestedDocument",
    "AttestedDocumentError",
    "CertificateExpiredError",
    "Change",
    "Cloud",
    "Compute",
    "DocumentExpiredError",
    "EventsDocument",
    "Instance",
    "LoadBalancer",
    "MalformedDocumentError",
    "MalformedMetadataError",
    "MetadataClient",
    "MetadataError",
    "MetadataNotFoundError",
    "MetadataRefusedError",
    "MetadataUnavailableError",
    "MissingIntermediateError",
    "Network",
    "NotYetValidError",
    "ScheduledEvent",
    "SignerNotFoundError",
    "StorageProfile",
    "UnknownRootError",
    "UnsupportedOnHostError",
    "UnsupportedVersionError",
    "UntrustedSignerError",
    "Watcher",
    "WrongCloudError",
    "WrongNonceError",
    "WrongSignatureError",
    "WrongSignerError",
    "cloud_named",
    "detect",
    "parse_instance",
    "public_ips",
    "read_attested_document_without_verifying",
    "stack_hub_cloud",
    "verify_attested_document",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f".{_MODULES.get(name, 'errors')}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
