"""The Instance Metadata Service but for tokens: what this machine is, and what awaits it.

Names are loaded when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._attestation.document import (
        AttestedDocument,
        read_attested_document_without_verifying,
        verify_attested_document,
    )
    from ._events.events import Change, EventsDocument, ScheduledEvent
    from ._events.watch import Watcher
    from ._models.compute import Compute, StorageProfile
    from ._models.instance import Instance, Network
    from ._models.load_balancer import LoadBalancer, public_ips
    from ._models.parsing import parse_instance
    from ._requests.presence import detect
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
        NotOfferedError,
        NotYetValidError,
        SignerNotFoundError,
        UnknownRootError,
        UnsupportedVersionError,
        UntrustedSignerError,
        WrongCloudError,
        WrongNonceError,
        WrongSignatureError,
        WrongSignerError,
    )

_HOMES = {
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
    "_requests.presence": ("detect",),
    "_events.events": ("Change", "EventsDocument", "ScheduledEvent"),
    "_events.watch": ("Watcher",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

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
    "NotOfferedError",
    "NotYetValidError",
    "ScheduledEvent",
    "SignerNotFoundError",
    "StorageProfile",
    "UnknownRootError",
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


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{_HOME_OF.get(name, 'errors')}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
