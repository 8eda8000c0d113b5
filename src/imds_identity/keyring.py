"""A backend of the keyring package: the passwords of Azure Artifacts feeds, for pip, uv and twine.

keyring finds it by its entry point. AZURE_CLIENT_ID selects a user-assigned identity.
"""

from __future__ import annotations

import re

from ._core.failure import Failure
from ._platform.environment import variable_value
from ._platform.imports import not_installed

try:
    from keyring.backend import KeyringBackend
    from keyring.credentials import SimpleCredential
    from keyring.errors import KeyringError, PasswordDeleteError, PasswordSetError
except ModuleNotFoundError:
    raise not_installed("keyring", "keyring", __name__) from None

__all__ = ["AzureArtifactsKeyring"]

_USER = "VssSessionToken"
# A client must not read another host from the URL: without backslashes, spaces and escapes.
_URL = re.compile(
    r"https://(?:[A-Za-z0-9._~:-]*@)?(?P<host>[A-Za-z0-9.-]+)(?::443)?(?:[/?#][!-~]*)?"
)


class AzureArtifactsKeyring(KeyringBackend):
    """Returns a managed identity's token as the password of an Azure Artifacts feed.

    For other services it has no passwords. It stores none.
    """

    priority = 0.1  # below that of backends that store passwords: keyring uses those first

    def get_credential(self, service: str, username: str | None) -> SimpleCredential | None:
        """Return user name and password of a feed.

        Args:
            service: the feed's URL. A host is not enough, because it may be accessed without TLS.
            username: the user name, if there is one in the URL; Azure Artifacts accepts any.

        Returns:
            The credential, or None if ``service`` is not an Azure Artifacts feed.

        Raises:
            KeyringError: if no token is available.
        """
        from .metadata._services import AZURE_DEVOPS, is_azure_artifacts

        url = _URL.fullmatch(service)
        if url is None or not is_azure_artifacts(url["host"].lower()):
            return None
        return SimpleCredential(username or _USER, _token(AZURE_DEVOPS))

    def get_password(self, service: str, username: str) -> str | None:
        """Return the password of a feed; see `get_credential`."""
        credential = self.get_credential(service, username)
        return credential.password if credential else None

    def set_password(self, service: str, username: str, password: str) -> None:  # noqa: ARG002
        """Raise PasswordSetError."""
        raise PasswordSetError("imds-identity stores no passwords")

    def delete_password(self, service: str, username: str) -> None:  # noqa: ARG002
        """Raise PasswordDeleteError."""
        raise PasswordDeleteError("imds-identity stores no passwords")


def _token(resource: str) -> str:
    from ._token_cache.process import client_for

    try:
        client = client_for(client_id=variable_value("AZURE_CLIENT_ID") or None)
        return client.token(client.entry(resource)).value
    except (Failure, ValueError) as error:
        keyring_error = KeyringError(str(error))
    raise keyring_error
