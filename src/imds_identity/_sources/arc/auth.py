"""The response to the agent's challenge."""

from __future__ import annotations

from urllib.parse import urlsplit

from . import key_file, peer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..._core.secret import Secret
    from ..._http.messages import Request


class KeyFileAuth:
    """Adds the content of a key file to requests, after checking that the agent listens there.

    A key file is read once: the agent may delete it while a request is retried.

    Args:
        path: the key file that the challenge named.
        directory: where the agent keeps its key files.
    """

    def __init__(self, path: str, directory: str) -> None:
        self.path = path
        self._directory = directory
        self._secret: Secret | None = None

    def __call__(self, request: Request) -> Request:
        """Return ``request`` with its ``Authorization`` header.

        Raise SecretUnreadable if another user listens there, or if the key file cannot be used.
        """
        peer.confirm(port_of(request.url))
        if self._secret is None:
            self._secret = key_file.read_secret(self.path, self._directory)
        return request.with_header("Authorization", self._secret.after("Basic "))


def port_of(url: str) -> int:
    """Return the port of ``url``."""
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)
