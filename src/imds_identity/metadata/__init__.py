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
    from ._events.events import (
        ApprovalPolicy,
        Change,
        EventsDocument,
        ScheduledEvent,
        own_names,
        why_not_approve,
    )
    from ._events.watcher import Watcher
    from ._models.compute import Compute, ScaleSet
    from ._models.instance import Instance, Network
    from ._models.load_balancer import LoadBalancer, public_ips
    from ._models.parsing import parse_instance
    from ._models.storage import StorageProfile
    from ._requests.detection import detect
    from ._requests.options import InstanceOptions, RequestOptions
    from .client import MetadataClient
    from .clouds import CLOUDS, Cloud, cloud_named, stack_hub_cloud
    from .errors import (
        AttestedDocumentError,
        CertificateExpiredError,
        CertificateRevokedError,
        DocumentExpiredError,
        MalformedDocumentError,
        MalformedMetadataError,
        MetadataError,
        MetadataNotFoundError,
        MetadataRefusedError,
        MetadataUnavailableError,
        MissingIntermediateError,
        NotYetValidError,
        RevocationUnknownError,
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
    "_models.compute": ("Compute", "ScaleSet"),
    "_models.storage": ("StorageProfile",),
    "_requests.detection": ("detect",),
    "_requests.options": ("InstanceOptions", "RequestOptions"),
    "_events.events": (
        "ApprovalPolicy",
        "Change",
        "EventsDocument",
        "ScheduledEvent",
        "own_names",
        "why_not_approve",
    ),
    "_events.watcher": ("Watcher",),
}
_MODULES = {name: module for module, names in _NAMES_OF_MODULES.items() for name in names}

__all__ = ["InstanceOptions", "MetadataClient", "RequestOptions", "detect"]
__all__ += ["CLOUDS", "Cloud", "cloud_named", "stack_hub_cloud"]
__all__ += ["Compute", "Instance", "LoadBalancer", "Network", "ScaleSet", "StorageProfile"]
__all__ += ["parse_instance", "public_ips"]
__all__ += ["Change", "EventsDocument", "ScheduledEvent", "Watcher"]
__all__ += ["ApprovalPolicy", "own_names", "why_not_approve"]
__all__ += ["AttestedDocument", "verify_attested_document"]
__all__ += ["read_attested_document_without_verifying"]
# Exceptions:
__all__ += ["MalformedMetadataError", "MetadataError", "MetadataNotFoundError"]
__all__ += ["MetadataRefusedError", "MetadataUnavailableError", "UnsupportedOnHostError"]
__all__ += ["AttestedDocumentError", "CertificateExpiredError", "UnsupportedVersionError"]
__all__ += ["DocumentExpiredError", "MalformedDocumentError", "MissingIntermediateError"]
__all__ += ["NotYetValidError", "SignerNotFoundError", "UnknownRootError", "UntrustedSignerError"]
__all__ += ["CertificateRevokedError", "RevocationUnknownError"]
__all__ += ["WrongCloudError", "WrongNonceError", "WrongSignatureError", "WrongSignerError"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f".{_MODULES.get(name, 'errors')}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
