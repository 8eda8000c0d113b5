"""What the sync and the async credential of a federated application share."""

from __future__ import annotations

from .._token_cache.process import application_client
from .base import BaseCredential, preload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class BaseFederatedApplicationCredential(BaseCredential):
    """Tokens of an application that trusts a managed identity."""

    def __init__(
        self,
        tenant_id: str,
        client_id: str,
        *,
        identity: str | Mapping[str, str | None] | None = None,
        authority: str | None = None,
        **identity_options: Any,
    ) -> None:
        selector = "client_id" if isinstance(identity, str) else "identity_config"
        options = {**identity_options, selector: identity}
        super().__init__(**options)
        settings = {
            "tenant_id": tenant_id,
            "client_id": client_id,
            "identity": identity,
            "authority": authority,
        }
        given = {name: value for name, value in settings.items() if value is not None}
        self._settings.pop(selector, None)
        self._settings = {**given, **self._settings}
        self._client = application_client(self._client, tenant_id, client_id, authority)
        preload(self._client)
