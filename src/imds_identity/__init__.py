"""Azure managed-identity credentials for VMs, scale sets and Arc servers.

Names are loaded when first used: importing this package takes almost no time.
"""

from __future__ import annotations

from ._version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .application import FederatedApplicationCredential
    from .auth import ManagedIdentityAuth
    from .credential import ManagedIdentityCredential, get_bearer_token_provider
    from .errors import (
        ArcSecretError,
        CredentialUnavailableError,
        MalformedAnswerError,
        ManagedIdentityError,
        TokenRefusedError,
    )

__all__ = [
    "ArcSecretError",
    "CredentialUnavailableError",
    "FederatedApplicationCredential",
    "MalformedAnswerError",
    "ManagedIdentityAuth",
    "ManagedIdentityCredential",
    "ManagedIdentityError",
    "TokenRefusedError",
    "__version__",
    "clear_cache",
    "get_bearer_token_provider",
]


def clear_cache() -> None:
    """Forget every token, so that the next request for each goes to the service.

    Use it in tests, and after a change of role assignments. It clears the memory of this process
    and the shared token cache, but not the memory of other processes, and drops the result of a
    fetch in progress. The service has a cache, too, which only a claims challenge bypasses.
    """
    from ._token_cache.process import clear_all

    clear_all()


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module: Any
    if name == "ManagedIdentityAuth":
        from . import auth as module
    elif name == "FederatedApplicationCredential":
        from . import application as module
    elif name in ("ManagedIdentityCredential", "get_bearer_token_provider"):
        from . import credential as module
    else:
        from . import errors as module
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
